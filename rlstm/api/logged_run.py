"""A run's loop between its loggers and its display, as ``train`` and ``resume`` start it."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from gymnasium.envs.registration import load_env_creator

from rlstm.api.stored_runs import changed_settings
from rlstm.training.loggers import CSVLogger, LoggerGroup, TensorBoardLogger
from rlstm.training.loop import OnEvaluation, run, summary
from rlstm.training.progress import UI, make_progress
from rlstm.training.result import TrainResult
from rlstm.training.run import Run
from rlstm.training.run_directory import RunDirectory, disk_errors


def run_logged(
    training: Run,
    directory: RunDirectory,
    ui: UI,
    purge_step: int | None,
    notes: Sequence[str | None] = (),
    on_evaluation: OnEvaluation | None = None,
) -> TrainResult:
    """Train to the end; a display shows the notes first, and TensorBoard forgets what is later than ``purge_step``."""
    config = training.config
    board = TensorBoardLogger(directory, purge_step=purge_step)
    with disk_errors(directory.path):
        rows = CSVLogger(directory.progress_path)
    with LoggerGroup(rows, board) as logger, make_progress(ui) as progress:
        board.log_hyperparameters(changed_settings(config))
        board.log_texts(_texts(training, directory))
        progress.start(summary(training, directory), config.run.total_steps, training.step)
        for note in filter(None, notes):
            progress.message(note)
        result = run(training, directory, logger, progress, on_evaluation)
    return replace(result, run_dir=str(directory.path))


def _texts(training: Run, directory: RunDirectory) -> dict[str, str]:
    """Return what a reader of curves asks: the command, the settings, and what a user's env says of itself."""
    texts = {"config": json.dumps(directory.read_config()["settings"], indent=2)}
    if directory.command_path.exists():
        texts["command"] = directory.command_path.read_text(encoding="utf-8", errors="replace")
    entry_point = training.spec.entry_point
    with suppress(Exception):  # Whatever is loaded here, the envs have been made.
        creator: Any = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
        if creator.__doc__ and not creator.__module__.startswith("rlstm."):
            texts["env"] = creator.__doc__
    return {title: textwrap.indent(inspect.cleandoc(text), "    ") for title, text in texts.items()}
