"""Where metrics go: `progress.csv`, TensorBoard, or both.

Conventions: a metric has one name ("rollout/ep_rew_mean"), in TensorBoard and as its column in the CSV; the x-axis is
always environment steps. One call of `log` is one row. A value that is None, NaN or infinite isn't known: it is an
empty cell in the CSV and no point in TensorBoard. When a run is resumed from the checkpoint of step N, both forget what
came later: `cut_csv(path, N)` before `CSVLogger(path)`, and `TensorBoardLogger(directory, purge_step=N + 1)`.

What can't be written, to a full disk or a folder that is gone, is told once, kept, and written as soon as it can be:
no log ends a run whose weights can be saved.

The one exception are curves over the episodes of a trial: `write_curves` gives each evaluation an event file in a
folder of its own, a run of TensorBoard's beside the run, where x is the place of an episode in its trial, from 1.
"""

from __future__ import annotations

import csv
import io
import math
import numbers
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rlstm.core.files import write_atomically
from rlstm.training.event_files import (
    HPARAM_METRICS,
    LAYOUT,
    EventFile,
    Trouble,
    event_paths,
    remedy,
    write_all,
)
from rlstm.training.run_directory import RunDirectoryError

FloatArray = npt.NDArray[np.float64]


class MetricSink(Protocol):
    """Something that takes metrics."""

    def log(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Record the metrics known after `step` environment steps."""

    def flush(self) -> None:
        """Make what was logged visible to readers."""

    def close(self) -> None:
        """Flush and release the files; a second call does nothing."""


class CSVLogger:
    """Writes `progress.csv`: first column `step`, then a column a metric, in the order of their first appearance.

    A metric that appears later widens the file: it is rewritten with empty cells in the earlier rows. An existing file
    is continued; the half row that a crash may have left at its end is dropped.

    Raises:
        ValueError: If the file exists and isn't one of these.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._columns = ["step"]
        self._file: io.FileIO | None = None
        self._kept: list[dict[str, str]] = []  # Rows that are not on disk.
        self._num_rows: int | None = None  # On disk, once it is known.
        self._trouble = Trouble(str(self.path))
        self._write()

    def log(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Append a row; it is on disk, for other programs to read, when this returns, unless it can't be written."""
        self._kept.append({name: _cell(value) for name, value in metrics.items()} | {"step": str(int(step))})
        self._write()

    def _write(self) -> None:
        with self._trouble.told():
            names = {name: None for row in self._kept for name in row if name not in self._columns}
            if self._file is None or names or not os.fstat(self._file.fileno()).st_nlink:
                self._open(names)
            assert self._file is not None
            try:
                if self._kept:
                    write_all(self._file, _text(self._columns, self._kept))
            except OSError:  # What was written of these rows is cut off when the file is opened again.
                self.close()
                raise
            self._num_rows = (self._num_rows or 0) + len(self._kept)
            self._kept.clear()

    def _open(self, new_columns: Iterable[str]) -> None:
        """Rewrite the file with its rows and these columns too, and open it for more."""
        self.close()
        columns, rows = read_csv(self.path)
        rows = rows[: self._num_rows]
        self._columns = list(dict.fromkeys([*columns, *self._columns, *new_columns]))
        _write_rows(self.path, self._columns, rows)
        self._num_rows = len(rows)
        self._file = io.FileIO(self.path, "a")

    def flush(self) -> None:
        """Try once more what could not be written: every row is flushed."""
        self._write()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()
        self._file = None


def cut_csv(path: str | os.PathLike[str], step: int) -> None:
    """Remove the rows later than `step` from a `progress.csv`, atomically; a missing file stays missing.

    Raises:
        ValueError: If the file isn't one that `CSVLogger` wrote.
        RunDirectoryError: If it can't be read or written.
    """
    try:
        if Path(path).exists():
            columns, rows = read_csv(Path(path))
            _write_rows(Path(path), columns, [row for row in rows if int(row["step"]) <= step])
    except OSError as error:
        raise RunDirectoryError(
            f"{path} can't be cut back to step {step}, from which the run goes on: {remedy(error)}."
        ) from error


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and the complete rows, each shorter than the header where the header has grown since.

    Raises:
        ValueError: If the file isn't one that `CSVLogger` wrote.
    """
    content = path.read_text(encoding="utf-8") if path.exists() else ""
    header, *rows = csv.reader(io.StringIO(content[: content.rfind("\n") + 1])) if "\n" in content else (["step"],)
    if header[:1] != ["step"]:
        raise ValueError(f"{path} is not a log of rlstm: its first column is {header[:1]}, not 'step'. Move it away.")
    return header, [dict(zip(header, row, strict=False)) for row in rows if row and row[0].isdecimal()]


def _text(columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, header: bool = False) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    write_atomically(path, _text(columns, rows, header=True))


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _cell(value: Any) -> str:
    """Format exactly: `float(cell)` is the value again."""
    if not _known(value):
        return ""
    return str(int(value)) if isinstance(value, numbers.Integral) else repr(float(value))


class TensorBoardLogger:
    """Writes one event file a process into the run directory.

    Args:
        directory: The run directory.
        purge_step: When a run is resumed: TensorBoard hides the earlier points of this step and later ones, so give the
            checkpoint's step + 1.
    """

    def __init__(self, directory: str | os.PathLike[str], purge_step: int | None = None) -> None:
        # The layout and the hyperparameters belong to the run, not to a step: the first process has written them.
        self._is_first = not event_paths(directory)
        self._events = EventFile(directory, purge_step)
        self._trouble = Trouble(f"TensorBoard's event file in {os.fspath(directory)}")
        if self._is_first:
            # Imported here: it takes a second, and most that import this module don't need it.
            from torch.utils.tensorboard.summary import custom_scalars

            self._events.add(custom_scalars(LAYOUT))
        self.flush()

    def log(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Add a point for every known metric."""
        for name, value in metrics.items():
            if value is not None and _known(value):
                self._events.add(_point(name, value), int(step))
        if self._events.is_due():
            self.flush()

    def log_hyperparameters(self, config: Mapping[str, Any], metrics: Sequence[str] = HPARAM_METRICS) -> None:
        """Fill a row of TensorBoard's tab "HParams"; do nothing if an earlier process of the run has done it.

        `SummaryWriter.add_hparams` would start a run of its own, so the three summaries are written to this event file.

        Args:
            config: The config; nested keys are joined by dots, anything but a number, bool or text becomes text.
            metrics: Names of metrics to show beside it, which the run logs as scalars.
        """
        from torch.utils.tensorboard.summary import hparams

        if self._is_first:
            for summary in hparams(dict(_flatten(config)), dict.fromkeys(metrics, 0.0)):
                self._events.add(summary)
            self.flush()

    def log_texts(self, texts: Mapping[str, str]) -> None:
        """Write texts by their titles, in Markdown, to TensorBoard's tab "Text"; as ``log_hyperparameters``, once."""
        from torch.utils.tensorboard.summary import text

        if self._is_first:
            for title, content in texts.items():
                self._events.add(text(title, content))

    def log_film(self, name: str, gif: bytes, size: tuple[int, int], step: int) -> None:
        """Write an animation, ``size`` its height and width, to TensorBoard's tab "Images"."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=gif)
        self._events.add(Summary(value=[Summary.Value(tag=name, image=image)]), int(step))

    def flush(self) -> None:
        """Write the pending points to disk."""
        with self._trouble.told():
            self._events.flush()

    def close(self) -> None:
        """Flush and close the event file; a second call does nothing."""
        with self._trouble.told():
            self._events.close()


def _point(name: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=float(value))])


def write_curves(directory: str | os.PathLike[str], curves: Mapping[str, Sequence[float] | FloatArray]) -> None:
    """Write curves over the episodes of a trial into a folder of their own, replacing what it held.

    A curve holds the values of the first, second, ... episode, (K,), drawn at x = 1, ..., K.
    """
    with Trouble(f"The trial curve {os.fspath(directory)}").told():
        if Path(directory).exists():
            shutil.rmtree(directory)
        Path(directory).mkdir(parents=True)
        with closing(EventFile(directory)) as events:
            for name, values in curves.items():
                for place, value in enumerate(values, start=1):
                    if _known(value):
                        events.add(_point(name, value), place)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | float | str]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, (bool, int, float, str)) else str(value)


class LoggerGroup(ExitStack):
    """Hands everything to several sinks; ``close``, or the end of its context, closes all of them despite errors."""

    def __init__(self, *sinks: MetricSink) -> None:
        super().__init__()
        self.sinks = sinks
        for sink in sinks:
            self.callback(sink.close)

    def log(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Log to every sink."""
        for sink in self.sinks:
            sink.log(metrics, step)

    def log_film(self, name: str, gif: bytes, size: tuple[int, int], step: int) -> None:
        """Hand a film to every sink that shows one."""
        for sink in self.sinks:
            if isinstance(sink, TensorBoardLogger):
                sink.log_film(name, gif, size, step)

    def flush(self) -> None:
        """Flush every sink."""
        for sink in self.sinks:
            sink.flush()
