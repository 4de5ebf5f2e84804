"""The files of a run that grow, `progress.csv` and `evaluations.npz`, as they were at a checkpoint.

A checkpoint knows how many rows each had and the hash of what they held. When the run goes on from it, what came later
is cut off, and what came before must still be the same. `progress.csv` may have become wider since; then the columns
that came later go too, so the file is byte for byte what it was. Checkpoints of earlier versions know nothing of this:
the files are cut by the step.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlstm.core.errors import RunDirectoryError
from rlstm.core.files import sha256, sync_folder, write_atomically
from rlstm.training.loggers import cut_csv, read_csv
from rlstm.training.run_directory import Evaluations, RunDirectory

_NO_ROWS = b"step\n"  # Of a CSV.


def settle_histories(directory: RunDirectory) -> dict[str, Any]:
    """Make what was logged survive a power cut, and return what `restore_histories` checks.

    Raises:
        OSError: If a file can't be read or written.
        RunDirectoryError: If the evaluations can't be read.
    """
    content = _NO_ROWS
    if directory.progress_path.exists():
        with directory.progress_path.open("r+b") as file:
            os.fsync(file.fileno())
            content = file.read()
    sync_folder(directory.path)
    reader = csv.reader(
        io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
    )  # Of it the header is read.
    columns = next(reader)
    evaluations = directory.read_evaluations()
    return {
        "progress": {
            "rows": content.count(b"\n") - reader.line_num,
            "columns": len(columns),
            "sha256": sha256(content),
        },
        "evaluations": {
            "rows": len(evaluations["timesteps"]),
            "sha256": _evaluations_hash(evaluations),
        },
    }


def restore_histories(
    directory: RunDirectory, step: int, histories: Mapping[str, Any] | None, *, accept_edits: bool = False
) -> list[str]:
    """Cut the files back to a checkpoint, and check that they hold what they held then.

    Args:
        directory: The run.
        step: Rows later than this go, if nothing more is known or an edit is accepted.
        histories: As the checkpoint has it.
        accept_edits: Take the earlier rows as they are.

    Returns:
        The names of files whose edits were accepted.

    Raises:
        RunDirectoryError: If a file was edited or damaged, or can't be written.
    """
    edited = []
    for path, key, restore in (
        (directory.progress_path, "progress", _restore_progress),
        (directory.evaluations_path, "evaluations", _restore_evaluations),
    ):
        with _naming(path):
            known = None if histories is None else histories[key]
            found = None if known is None else restore(directory, known)
            if known is not None and found is not None:
                if not accept_edits:
                    raise _edited(directory, path, step, found, known["rows"])
                edited.append(path.name)
    with _naming(directory.progress_path):
        if histories is None or directory.progress_path.name in edited:
            cut_csv(directory.progress_path, step)
    with _naming(directory.evaluations_path):
        directory.cut_evaluations(step)
    return edited


def read_progress(directory: RunDirectory) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and rows of ``progress.csv``, as ``read_csv``.

    Raises:
        RunDirectoryError: If it can't be read.
    """
    with _naming(directory.progress_path):
        return read_csv(directory.progress_path)


def num_logged(directory: RunDirectory) -> int:
    """Return the number of rows and evaluations so far.

    Raises:
        RunDirectoryError: If a file can't be read.
    """
    return len(read_progress(directory)[1]) + len(directory.read_evaluations()["timesteps"])


def _restore_progress(directory: RunDirectory, known: Mapping[str, Any]) -> int | None:
    """Cut the log back to what is known of it; if it isn't so, do nothing and return how many of the rows there are."""
    path, rows, columns = directory.progress_path, known["rows"], known["columns"]
    found_columns, found_rows = read_csv(path)
    content = _csv_bytes(found_columns[:columns], found_rows[:rows])
    if sha256(content) != known["sha256"]:
        return min(len(found_rows), int(rows))
    if path.exists() and path.read_bytes() != content:
        write_atomically(path, content)
    return None


def _restore_evaluations(directory: RunDirectory, known: Mapping[str, Any]) -> int | None:
    """Do the same with the evaluations."""
    evaluations, rows = directory.read_evaluations(), known["rows"]
    kept = {name: values[:rows] for name, values in evaluations.items()}
    if _evaluations_hash(kept) != known["sha256"]:
        return len(kept["timesteps"])
    if rows < len(evaluations["timesteps"]):
        directory.write_evaluations(kept)
    return None


def _csv_bytes(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
    """Return the bytes of a file with these columns and rows, as ``CSVLogger`` writes them."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _evaluations_hash(evaluations: Evaluations) -> str:
    parts = [repr(values.shape).encode() + values.tobytes() for values in evaluations.values() if values.size]
    return sha256(b"".join(parts))


def _edited(directory: RunDirectory, path: Path, step: int, found: int, expected: int) -> RunDirectoryError:
    what = f"holds {found} of the {expected} rows that it had" if found < expected else "holds other values than it had"
    return RunDirectoryError(
        f"{path} {what} at step {step}, from which the run goes on: edited or damaged since. If the edit is yours, say "
        f"so: rlstm resume {directory.path} --accept-edits. Otherwise restore the file from a copy."
    )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError.
        raise RunDirectoryError(
            f"{path} can't be read: {error}. Restore it from a copy, or move it away and resume with --accept-edits."
        ) from error
    except OSError as error:
        raise RunDirectoryError(
            f"can't read or write {error.filename or path}: {error.strerror or error}. Earlier checkpoints are intact: "
            "free some space, then `rlstm resume`."
        ) from error
