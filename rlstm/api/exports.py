"""Exporting what a run has learnt, for programs that do without this library."""

from __future__ import annotations

import os
from pathlib import Path

from rlstm.api.finished_runs import open_run
from rlstm.api.stored_runs import Which
from rlstm.export import SOURCES, open_format
from rlstm.export.write import Export, export_policy, refuse_occupied
from rlstm.training.run_directory import RunDirectory


def export(
    run_dir: str | os.PathLike[str],
    *,
    format: str,
    out: str | os.PathLike[str],
    checkpoint: Which | None = None,
    trust: bool = False,
) -> Export:
    """Write a trained policy as a model of one step, with ``policy.json`` beside it, and compare it with the policy.

    Args:
        run_dir: The run's folder.
        format: A key of ``rlstm.export.FORMATS`` or ``SOURCES``: onnx, pt2, or c.
        out: The folder to write; it must not exist, or be empty.
        checkpoint: latest, best, or a step; by default the best where there is one.
        trust: Import the modules that the run names, if its cell or encoder is none of this library's.

    Raises:
        ExportError: If a package is missing, the folder holds something, the policy can't be expressed, or what was
            written is not what the policy does; then nothing is left of it.
        CheckpointError, RunDirectoryError: If the checkpoint or the folder is missing or damaged.
    """
    if format not in SOURCES:
        open_format(format).check_installed()
    refuse_occupied(Path(out))
    run = open_run(run_dir, checkpoint, device="cpu", trust=trust)
    facts = {
        "run": Path(RunDirectory(run_dir).path).resolve().name,
        "agent": run.config.agent,
        "env": run.config.env.env,
        "env_wrappers": list(run.config.env.env_wrappers),
        "checkpoint_step": run.step,
        "deterministic": run.takes_likeliest(None),
    }
    return export_policy(run.policy, format, Path(out), facts)
