"""Run experiments: words of their command lines, training by the words of ``rlstm``, and the machine it ran on."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import platform
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scripts.results_table import commit

MACHINE_COLUMNS = ("commit", "device", "threads", "python", "torch", "numpy", "gymnasium")


def make_parser(description: str | None, seeds: Sequence[int]) -> argparse.ArgumentParser:
    """Return a parser of the flags that all experiments with seeds have.

    Args:
        description: The script's docstring.
        seeds: Those that are run if none are named.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--tables", action="store_true", help="only write the tables, from the rows there are")
    return parser


def refuse_unknown(parser: argparse.ArgumentParser, names: Iterable[str], known: Iterable[str]) -> None:
    """End the program with the names there are if one is unknown."""
    known = list(known)
    for name in names:
        if name not in known:
            parser.error(f"unknown name '{name}'; there are {', '.join(known)}")


def train(words: Sequence[str], run_dir: Path) -> list[dict[str, str]]:
    """Run ``rlstm`` with these words and return the rows of its progress.

    Raises:
        SystemExit: If the run fails, naming the command.
    """
    from rlstm.cli import main as rlstm_command

    with contextlib.redirect_stdout(io.StringIO()):
        code = rlstm_command([*words, "--run-dir", str(run_dir), "--ui", "none"])
    if code != 0:
        raise SystemExit(f"The run failed with exit code {code}: rlstm {shlex.join(words)}")
    return read_progress(run_dir)


def read_progress(run_dir: Path) -> list[dict[str, str]]:
    """Return the rows of a run's progress."""
    from rlstm.training.run_directory import RunDirectory

    with RunDirectory(str(run_dir)).progress_path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
