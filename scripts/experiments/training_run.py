"""What scripts that train in their own process share: a run by the command line's words, and the machine it ran on."""

from __future__ import annotations

import contextlib
import csv
import io
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.results_table import commit

MACHINE_COLUMNS = ("commit", "device", "threads", "python", "torch", "numpy", "gymnasium")


def train(words: Sequence[str], run_dir: Path) -> dict[str, str]:
    """Run ``rlstm`` with these words and return the last row of its progress.

    Raises:
        SystemExit: If the run fails, naming the command.
    """
    from rlstm.cli import main as rlstm_command

    with contextlib.redirect_stdout(io.StringIO()):
        code = rlstm_command([*words, "--run-dir", str(run_dir), "--ui", "none"])
    if code != 0:
        raise SystemExit(f"The run failed with exit code {code}: rlstm {shlex.join(words)}")
    return last_row(run_dir)


def last_row(run_dir: Path) -> dict[str, str]:
    """Return the last row of a run's progress."""
    from rlstm.training.run_directory import RunDirectory

    with RunDirectory(str(run_dir)).progress_path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))[-1]


def machine(num_threads: int) -> dict[str, Any]:
    """Return on what a run ran, by ``MACHINE_COLUMNS``."""
    import gymnasium
    import numpy as np
    import torch

    return {
        "commit": commit(),
        "device": f"cpu, {platform.machine()}",
        "threads": num_threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "gymnasium": gymnasium.__version__,
    }
