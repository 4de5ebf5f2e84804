"""Claims about `scripts/`: every one of them starts, and the demo runs to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)


def test_every_script_can_be_imported() -> None:
    """What they need beyond the library they import when it is used."""
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SCRIPTS]
    done = run("-c", "\n".join(f"import {one}" for one in modules))
    assert done.returncode == 0, done.stderr


def test_the_demo_trains_both_agents_and_takes_a_memory_away(tmp_path: Path) -> None:
    done = run(ROOT / "scripts" / "demo.py", "--total-steps", "1024", "--num-threads", "1", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("%") >= 3, done.stdout
