"""Claims about `scripts/benchmarks/commands.py`: a command is compared with the floor that ran just before it."""

import os
from pathlib import Path

import pytest

from scripts.benchmarks import commands
from scripts.benchmarks.commands import Times

ROOT = Path(__file__).parents[2]


def test_the_ratio_is_the_median_over_runs_of_a_command_by_its_floor() -> None:
    pairs = [
        (Times(1.0, 0.5), Times(3.0, 1.0)),
        (Times(2.0, 0.25), Times(4.0, 1.5)),
        (Times(1.0, 0.5), Times(9.0, 2.0)),
    ]
    row = commands.row_of("envs", pairs, {"commit": "abc"})
    assert (row["command"], row["commit"], row["runs"]) == ("envs", "abc", 3)
    assert (row["median_seconds"], row["least_seconds"], row["ratio"]) == ("4.000", "3.000", "3.000")
    assert (row["processor_seconds"], row["processor_ratio"]) == ("1.000", "4.000")
    assert {*row} <= {*commands.COLUMNS, "commit"}


def test_a_command_of_a_checkout_is_timed_with_its_compiled_modules_elsewhere(tmp_path: Path) -> None:
    environment = commands.environment_for(ROOT, str(tmp_path))
    program = (
        "import rlstm, sys; sys.exit(not (rlstm.__file__.startswith(sys.argv[1]) and not sys.dont_write_bytecode))"
    )
    times = commands.run(["-c", program, str(ROOT)], environment, str(tmp_path))
    assert times.wall > 0
    assert times.processor >= 0
    assert any((tmp_path / "compiled").rglob("*.pyc"))


def test_a_command_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="failed with exit code 3"):
        commands.run(["-c", "raise SystemExit(3)"], dict(os.environ), str(tmp_path))
