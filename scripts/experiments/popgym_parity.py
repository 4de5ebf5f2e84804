"""Write the table of how our POPGym tasks agree with popgym's own, from hundreds of episodes each.

    python -m scripts.experiments.popgym_parity  # runs the slow parity tests, writes scripts/results/popgym_parity.csv

Each test puts both environments into the same hidden state, plays both with the same actions, and compares every
observation, reward and end; see tests/envs/test_popgym_cards.py and test_popgym_boards.py for the tolerances. Needs
`pip install rlstm-torch[dev]`.
"""

import csv
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "scripts" / "results" / "popgym_parity.csv"
TESTS = ["tests/envs/test_popgym_cards.py", "tests/envs/test_popgym_boards.py"]
HEADER = ("env", "episodes", "steps", "result", "popgym")


def read_report(path: Path) -> list[dict[str, str]]:
    """Return a row for each test that recorded what it compared; a test that failed recorded nothing."""
    rows = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        facts = {one.get("name", ""): one.get("value", "") for one in case.iter("property")}
        if "env" in facts:
            rows.append({**facts, "result": "equal", "popgym": version("popgym")})
        elif case.find("failure") is not None or case.find("error") is not None:
            rows.append({"env": case.get("name", ""), "result": "differs", "popgym": version("popgym")})
    return rows


def main() -> int:
    """Run, write and print the table; the exit status is pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", "-k", "hundreds", f"--junitxml={report}", *TESTS]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        rows = read_report(report)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(" | ".join(row.get(name, "") for name in HEADER))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
