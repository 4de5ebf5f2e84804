"""Write what `rlstm cells` prints from the cells themselves, so that the command need not import torch to count.

python -m scripts.list_cells          # write rlstm/cli/cells.json
python -m scripts.list_cells --check  # exit with 1 if it isn't what would be written
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rlstm.cells import CELLS, make_cell
from rlstm.cells.sequence_paths import sequence_paths_of
from rlstm.core.trees import tree_leaves

FILE = Path(__file__).resolve().parents[1] / "rlstm" / "cli" / "cells.json"

INPUT_SIZE, HIDDEN_SIZE = 64, 128
DEVICES = ("cpu", "cuda")


def describe(name: str) -> dict[str, Any]:
    """Return what is listed of a cell; the paths of `auto` by device, whether there is one here or not."""
    cell = make_cell(name, INPUT_SIZE, HIDDEN_SIZE)
    return {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in cell.parameters()),
        "state_size": sum(leaf.numel() for leaf in tree_leaves(cell.init_state(1))),
        "sequence_path": {device: cell.sequence_path(torch.device(device)) for device in DEVICES},
        "sequences": sequence_paths_of(cell),
        "source": cell.source,
    }


def write_list() -> str:
    """Return all of rlstm/cli/cells.json."""
    values = {"input_size": INPUT_SIZE, "hidden_size": HIDDEN_SIZE, "cells": [describe(name) for name in CELLS]}
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None, path: Path = FILE) -> int:
    """Write the list or check it, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if the file is stale")
    text = write_list()
    if not parser.parse_args(arguments).check:
        path.write_text(text, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    print(f"{path} is stale: run python -m scripts.list_cells.")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
