"""What ``resume`` asks of a run before it goes on: which checkpoint is the last, and which files were edited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlstm.core.errors import CheckpointError
from rlstm.training.checkpoints import Checkpoint, check_meta, list_checkpoints, load_checkpoint
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.histories import num_logged
from rlstm.training.manifest import edited_files, write_manifest
from rlstm.training.run_directory import RunDirectory, disk_errors


def take_edits(directory: RunDirectory) -> list[str | None]:
    """Make the manifest that of the files as they are; returns which had been edited, in a sentence."""
    edited = edited_files(directory.path)
    with disk_errors(directory.path):
        write_manifest(directory.path)
    return [edits_taken(edited)]


def edits_taken(names: Sequence[str]) -> str | None:
    """Return which files were edited, in a sentence, or None."""
    return f"Edited, and taken as they are now: {', '.join(names)}." if names else None


def last_checkpoint(
    directory: RunDirectory, config: ExperimentConfig[Any], notes: Sequence[str | None]
) -> Checkpoint | None:
    """Return the checkpoint to go on from; None if the run was stopped before there was any.

    Args:
        directory: The run.
        config: Its experiment, whose total may be a new one.
        notes: What a user is to be told if nothing is left to do.

    Raises:
        ConfigError: If nothing is left to do.
        CheckpointError: If the checkpoint is damaged or another run's, or the checkpoints were removed.
        RunDirectoryError: If the logs can't be read.
    """
    if not list_checkpoints(directory):
        if num_logged(directory):
            raise CheckpointError(
                f"{directory.checkpoints_path} holds no checkpoint, but {directory.progress_path.name} says that the "
                "run had some: they were removed, so it can't go on. Restore them from a copy, or train anew."
            )
        return None
    checkpoint = load_checkpoint(directory, "latest")
    check_meta(checkpoint, config.identity())
    is_open = isinstance(checkpoint.trainer, dict) and checkpoint.trainer.get("open_update") is not None
    if config.run.total_steps <= checkpoint.step and not is_open:
        told = "".join(f"{note} " for note in notes if note)
        raise ConfigError(
            f"{told}The run is at step {checkpoint.step} and total_steps is {config.run.total_steps}: nothing is left "
            "to do. Give a larger total with --total-steps."
        )
    return checkpoint
