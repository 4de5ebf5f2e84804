"""Train every case of a JSON file, in ranks where the environment says so: ``python rank_runs.py CASES FOLDER``.

A case that has a folder already is resumed.
"""

import json
import sys
from pathlib import Path

import rlstm


def main() -> None:
    """Train each case into a folder of its name."""
    cases, folder = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    for name, settings in cases.items():
        if (folder / name).exists():
            rlstm.resume(str(folder / name), ui="none")
        else:
            rlstm.train(**settings, run_dir=str(folder / name), ui="none", num_threads=1)


if __name__ == "__main__":
    main()
