"""``rlstm cells``: the memory cells, their size, and how they run over a sequence."""

from __future__ import annotations

from typing import Any

from rlstm.cli.answers import Answer
from rlstm.cli.parsing import JsonFlags, parse
from rlstm.cli.tables import number, table

_INPUT_SIZE, _HIDDEN_SIZE = 64, 128


def run(words: list[str]) -> Answer:
    """Describe every cell at one size."""
    parse(JsonFlags, words, "cells", "List the memory cells for --cell.")
    import torch

    from rlstm.cells import CELLS

    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    cells = [_describe(name, devices) for name in CELLS]
    rows = [
        (
            cell["name"],
            number(cell["parameters"]),
            number(cell["state_size"]),
            *(cell["sequence_path"][device] for device in devices),
            ", ".join(cell["sequences"]),
            cell["source"],
        )
        for cell in cells
    ]
    paths = [f"sequence on {device}" for device in devices]
    text = table(("cell", "parameters", "state", *paths, "--sequence", "source"), rows, wrapped=(*paths, "source"))
    foot = f"Parameters, and numbers of state in each env, with {_INPUT_SIZE} inputs and --hidden-size {_HIDDEN_SIZE}."
    values = {"input_size": _INPUT_SIZE, "hidden_size": _HIDDEN_SIZE, "cells": cells}
    return Answer(f"{text}\n\n{foot}", values)


def _describe(name: str, devices: list[str]) -> dict[str, Any]:
    import torch

    from rlstm.cells import make_cell
    from rlstm.cells.sequence_paths import sequence_paths_of
    from rlstm.core.trees import tree_leaves

    cell = make_cell(name, _INPUT_SIZE, _HIDDEN_SIZE)
    return {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in cell.parameters()),
        "state_size": sum(leaf.numel() for leaf in tree_leaves(cell.init_state(1))),
        "sequence_path": {device: cell.sequence_path(torch.device(device)) for device in devices},
        "sequences": sequence_paths_of(cell),
        "source": cell.source,
    }
