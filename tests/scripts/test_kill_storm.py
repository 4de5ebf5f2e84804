"""Claims about `scripts/benchmarks/kill_storm.py`: what it counts of runs that are killed and resumed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.benchmarks import kill_storm
from scripts.benchmarks.kill_storm import Peace, Try, descendants, living, storm, table


class Runs:
    """Commands whose outcomes are given: what was killed or the exit code, and the weights that are there then."""

    def __init__(self, folder: Path, *outcomes: tuple[str | int, bytes | None]) -> None:
        self.folder, self.outcomes = folder, list(outcomes)
        self.verbs: list[str] = []

    def attempt(self, words: str, num_ranks: int, seconds: float | None, chance: random.Random) -> Try:
        self.verbs.append(words.split()[0])
        outcome, found = self.outcomes.pop(0)
        if found is not None:
            checkpoint = self.folder / "checkpoints" / "step_1"
            checkpoint.mkdir(parents=True, exist_ok=True)
            (self.folder / "config.json").touch()
            (self.folder / "checkpoints" / "latest").write_text("step_1\n")
            (checkpoint / "model.safetensors").write_bytes(found)
        return Try(outcome, "", None, 0) if isinstance(outcome, int) else Try(-9, "", outcome, 0)


@pytest.mark.parametrize(
    ("outcomes", "verbs", "expected"),
    [
        ([(0, b"w")], ["train"], {"ended": 1, "equal": 1}),
        ([("main", b"x"), (0, b"w")], ["train", "resume"], {"main": 1, "ended": 1, "equal": 1}),
        ([("main", None), (0, b"w")], ["train", "train"], {"main": 1, "unborn": 1, "ended": 1, "equal": 1}),
        ([("group", b"x"), (0, b"v")], ["train", "resume"], {"group": 1, "ended": 1, "unequal": 1}),
        ([("worker", b"x"), (1, b"x")], ["train", "resume"], {"worker": 1, "refused": 1, "lost": 1}),
    ],
)
def test_what_becomes_of_a_run_is_counted(
    outcomes: list[tuple[str | int, bytes | None]],
    verbs: list[str],
    expected: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = Runs(tmp_path / "run", *outcomes)
    monkeypatch.setattr(kill_storm, "attempt", runs.attempt)
    counts = storm("train ppo", 1, runs.folder, Peace(b"w", 1.0, 2.0), 1, random.Random(0))
    assert runs.verbs == verbs
    assert {name: count for name, count in counts.items() if count} == {"runs": 1, **expected}
    row = dict(
        zip(table({"ppo": counts}).split()[:12], table({"ppo": counts}).splitlines()[1].split()[1:], strict=True)
    )
    assert {name: int(count) for name, count in row.items() if count != "0"} == {"runs": 1, **expected}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")
def test_processes_that_a_process_has_started_are_found() -> None:
    program = "import subprocess; subprocess.run(['sleep', '60'])"
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as process:
        while not (found := descendants(process.pid)):
            time.sleep(0.01)
        assert living(found) == found
        os.killpg(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while living(found) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert living(found) == []


@pytest.mark.slow
def test_no_run_is_lost_in_a_storm() -> None:
    assert kill_storm.main(["--kills", "4", "--cases", "ppo/async", "evolino/workers"]) == 0
