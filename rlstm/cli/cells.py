"""``rlstm cells``: the memory cells, their size, and how they run over a sequence.

What it says is read from ``cells.json``, which ``python -m scripts.list_cells`` writes from the cells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlstm.cli.answers import Answer
from rlstm.cli.parsing import JsonFlags, parse
from rlstm.cli.tables import table
from rlstm.core.number_text import number

_LIST = Path(__file__).with_name("cells.json")


def run(words: list[str]) -> Answer:
    """Describe every cell at one size."""
    parse(JsonFlags, words, "cells", "List the memory cells for --cell.")
    values: dict[str, Any] = json.loads(_LIST.read_text(encoding="utf-8"))
    rows = [
        (
            cell["name"],
            number(cell["parameters"]),
            number(cell["state_size"]),
            _paths(cell["sequence_path"]),
            ", ".join(cell["sequences"]),
            cell["source"],
        )
        for cell in values["cells"]
    ]
    header = ("cell", "parameters", "state", "sequence", "--sequence", "source")
    text = table(header, rows, wrapped=("sequence", "source"))
    inputs, hidden = values["input_size"], values["hidden_size"]
    foot = f"Parameters, and numbers of state in each env, with {inputs} inputs and --hidden-size {hidden}."
    return Answer(f"{text}\n\n{foot}", values)


def _paths(by_device: Mapping[str, str]) -> str:
    """Return the path of ``auto``, by device where they differ."""
    if len(set(by_device.values())) == 1:
        return next(iter(by_device.values()))
    return "; ".join(f"{device}: {path}" for device, path in by_device.items())
