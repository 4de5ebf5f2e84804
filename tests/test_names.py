"""Names of tests are sentences that fit a line of pytest's report."""

import re
from pathlib import Path

LONGEST = 80


def test_no_name_of_a_test_is_too_long() -> None:
    files = Path(__file__).parent.rglob("test_*.py")
    names = {name: path.name for path in files for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))}
    assert len(names) > 1000
    assert {name: file for name, file in names.items() if len(name) > LONGEST} == {}
