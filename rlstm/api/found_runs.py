"""Runs that are found in folders: their settings, what tells them apart, and all that ``progress.csv`` holds."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlstm.api.stored_runs import read_config
from rlstm.core.statistics import Floats, Steps
from rlstm.training.config import ExperimentConfig, RunConfig
from rlstm.training.histories import read_progress
from rlstm.training.run_directory import RunDirectory, RunDirectoryError

_SEED_AND_FOLDER = ("seed", "run_dir")
_NO_PART = frozenset(
    ("record_every", "checkpoint_every", "keep_checkpoints", "num_threads", "eval_every", "eval_episodes", "log_info")
)
"""What has no part in what is learnt."""

_UNSET = "none"
_FIRST = ("agent", "cell")  # Of the settings that may tell runs apart; those of the run itself come last.
_LAST = frozenset(field.name for field in dataclasses.fields(RunConfig))


@dataclass(frozen=True)
class FoundRun:
    """What is read of a run."""

    path: Path
    """Its folder."""

    argument: Path
    """What was given: its folder, or one above it that was searched."""

    env: str
    seed: int

    settings: Mapping[str, str]
    """All others as text, but for the folder; arguments of env, cell and encoder one by one."""

    columns: Mapping[str, Mapping[int, float]]
    """By metric, the values that are known by their environment step."""

    @property
    def kind(self) -> tuple[tuple[str, str], ...]:
        """What runs have in common that differ in nothing but their seed and folder."""
        return tuple(sorted(self.settings.items()))

    def curve(self, metric: str) -> tuple[Steps, Floats]:
        """Return the steps at which a metric is known, and its values, (N,) each."""
        steps, values = zip(*sorted(self.columns[metric].items()), strict=True)
        return np.array(steps), np.array(values)


def find_runs(paths: Iterable[str | os.PathLike[str]]) -> list[FoundRun]:
    """Read the runs in these folders, or below those that are no runs; each once.

    Raises:
        RunDirectoryError: If a folder is missing, holds no run, or a run can't be read.
    """
    found: dict[Path, FoundRun] = {}
    for path in map(Path, paths):
        for folder in _run_folders(path):
            if folder.resolve() not in found:
                found[folder.resolve()] = _read(folder, path)
    return list(found.values())


def _run_folders(path: Path) -> list[Path]:
    if not path.is_dir() or (path / "config.json").is_file():
        return [path]
    folders = [config.parent for config in sorted(path.rglob("config.json"))]
    folders = [folder for folder in folders if (folder / "env_spec.json").is_file()]
    if not folders:
        raise RunDirectoryError(f"{path} holds no run: no folder in it has a config.json. Give a run, or one above it.")
    return folders


def _read(path: Path, argument: Path) -> FoundRun:
    directory = RunDirectory.open(path)
    config = read_config(directory)
    columns: dict[str, dict[int, float]] = {}
    try:
        names, rows = read_progress(directory)
        for name in names[1:]:
            columns[name] = {int(row["step"]): float(row[name]) for row in rows if row.get(name)}
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{directory.progress_path} can't be read: {error}. Leave the run out.") from error
    settings = _settings(config)
    if directory.curriculum_path.exists():  # Its stages tell runs apart, not where the file was.
        settings["curriculum"] = f"{zlib.crc32(directory.curriculum_path.read_bytes()):08x}"
    return FoundRun(path, argument, config.env.env, config.run.seed, settings, columns)


def _settings(config: ExperimentConfig[Any]) -> dict[str, str]:
    found = {"agent": config.agent}
    for name, value in config.settings().items():
        if name not in _SEED_AND_FOLDER and name not in _NO_PART:
            inner = {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
            found |= {name: _text(item) for name, item in inner.items()}
    return found


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(_text, value)) or _UNSET
    return _UNSET if value is None else str(value)


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names of the settings that aren't the same everywhere, those that matter most first."""
    names = list(dict.fromkeys(name for one in settings for name in one))
    names.sort(key=lambda name: (name not in _FIRST, name in _LAST))
    return [name for name in names if len(_values(settings, [name])) > 1]


def telling(settings: Sequence[Mapping[str, str]], names: Sequence[str]) -> list[str]:
    """Return of the ``names`` the first that suffice to tell apart whatever all of them do."""
    chosen: list[str] = []
    for name in names:
        if len(_values(settings, [*chosen, name])) > len(_values(settings, chosen)):
            chosen.append(name)
    return chosen


def pick(settings: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return some of the settings; one that an agent does not have is as good as unset."""
    return {name: settings.get(name, _UNSET) for name in names}


def _values(settings: Sequence[Mapping[str, str]], names: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(pick(one, names).values()) for one in settings}
