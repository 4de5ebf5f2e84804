"""The folder of several runs that differ in their seed alone.

    seeds.json, seed-0/, seed-0.log, seed-1/, seed-1.log, ...

`seeds.json` says what the folder is: the command, the seeds, the experiment with all its settings, and how the seeds
that have ended did. Each `seed-N` is a run directory like any other, each `seed-N.log` what its process said. This
module imports no torch: processes of their own train.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from rlstm.core.files import read_json, write_json
from rlstm.core.version import __version__
from rlstm.training.new_folder import make_new_folder
from rlstm.training.run_directory import RunDirectory, RunDirectoryError

FILE = "seeds.json"


class SeedsFolder:
    """The paths of a folder of seeds, and its one file. Make one with `create` or `open`."""

    def __init__(self, path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._content = dict(content)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None,
        *,
        config: Mapping[str, Any],
        seeds: Sequence[int],
        command: Sequence[str],
        seed_command: Sequence[str] | None,
    ) -> Self:
        """Start a folder that is missing or empty; a new one under ``runs/`` if none is named.

        Args:
            path: The folder.
            config: The experiment as it is stored; of its seed and folder nothing is used.
            seeds: The seeds.
            command: The command line, as a list of words.
            seed_command: That of a single seed, which lacks its seed and folder; None if there is none.

        Raises:
            RunDirectoryError: If the folder holds something, or can't be written.
        """
        settings = config["settings"]
        content = {
            "what": "runs of one experiment, one for each seed; go on with: rlstm resume",
            "rlstm": __version__,
            "command": list(command),
            "seed_command": None if seed_command is None else list(seed_command),
            "agent": config["agent"],
            "env": settings["env"],
            "seeds": list(seeds),
            "settings": dict(settings),
            "results": {},
        }
        folder = cls(
            make_new_folder("runs", config["agent"], settings["env"], "seeds") if path is None else path, content
        )
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder._refuse_occupied()
            folder._write()
        except OSError as error:
            reason = "it is a file" if folder.path.is_file() else (error.strerror or str(error))
            raise RunDirectoryError(
                f"can't write {folder.path}: {reason}. Choose a folder you may write to with --run-dir."
            ) from error
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open an existing folder of seeds.

        Raises:
            RunDirectoryError: If it is none, or its file can't be read.
        """
        file = Path(path) / FILE
        if not file.is_file():
            raise RunDirectoryError(f"{path} is no folder of seeds: it has no {FILE}. Give one that --seeds made.")
        content = read_json(file)
        seeds, kinds = content.get("seeds"), {"agent": str, "env": str, "settings": dict, "results": dict}
        whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
        if not whole or any(not isinstance(content.get(name), kind) for name, kind in kinds.items()):
            raise RunDirectoryError(f"{file} is not as rlstm writes it. Restore it from a copy, or train anew.")
        return cls(path, content)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(self._content["seeds"])

    @property
    def config(self) -> dict[str, Any]:
        """The experiment as it is stored."""
        return {"agent": self._content["agent"], "settings": self._content["settings"]}

    def seed_path(self, seed: int) -> Path:
        """Return the run directory of a seed."""
        return self.path / f"seed-{seed}"

    def log_path(self, seed: int) -> Path:
        """Return the file of what a seed's process said."""
        return self.path / f"seed-{seed}.log"

    def command_of(self, seed: int) -> list[str] | None:
        """Return the command line that trains this seed alone, or the one that began them all."""
        single: list[str] | None = self._content.get("seed_command")
        if single is None:
            return self._content.get("command")
        return [*single, "--seed", str(seed), "--run-dir", str(self.seed_path(seed))]

    def step(self, seed: int) -> int | None:
        """Return the step of a seed's latest checkpoint; None if there is none, and so nothing to go on from."""
        try:
            pointer = (self.seed_path(seed) / "checkpoints" / "latest").read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None
        found = re.fullmatch(r"step_(\d+)\s*", pointer)
        return int(found[1]) if found else None

    def total_steps(self, seed: int) -> int:
        """Return the steps that a seed shall take: a run that was resumed by itself may have a total of its own."""
        try:
            return int(RunDirectory(self.seed_path(seed)).read_config()["settings"]["total_steps"])
        except (RunDirectoryError, KeyError, TypeError, ValueError):  # None yet, or damaged: its process will say so.
            return int(self.config["settings"]["total_steps"])

    def clear(self, seed: int) -> None:
        """Remove the folder of a seed that ended before its first checkpoint, so that it can begin."""
        path = self.seed_path(seed)
        if path.is_dir() and not list(path.glob("checkpoints/step_*")):
            shutil.rmtree(path)

    def result(self, seed: int) -> dict[str, Any] | None:
        """Return how a seed ended, as its process said; None if it did not, or the run has gone on since."""
        found: dict[str, Any] | None = self._content["results"].get(str(seed))
        return found if found is not None and found.get("steps") == self.step(seed) else None

    def keep_result(self, seed: int, result: Mapping[str, Any]) -> None:
        """Write down how a seed ended; raise `OSError` if that is impossible."""
        self._content["results"][str(seed)] = dict(result)
        self._write()

    def remove(self) -> None:
        """Remove the folder of seeds none of which has a folder of its own; raise `OSError` if it holds more."""
        for seed in self.seeds:
            self.log_path(seed).unlink(missing_ok=True)
        (self.path / FILE).unlink()
        self.path.rmdir()

    def _write(self) -> None:
        write_json(self.path / FILE, self._content)

    def _refuse_occupied(self) -> None:
        names = sorted(entry.name for entry in self.path.iterdir())
        if FILE in names:
            raise RunDirectoryError(
                f"{self.path} already holds runs of several seeds. Go on with them by `rlstm resume {self.path}`, or "
                "name another --run-dir."
            )
        if names:
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise RunDirectoryError(
                f"{self.path} is not empty: it holds {listed}. Name a new or empty folder with --run-dir."
            )


def is_seeds_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds the runs of several seeds."""
    return (Path(path) / FILE).is_file()
