"""PyTorch's own format, written by ``torch.export``: a graph with its weights that needs torch alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rlstm.core.arrays import Array
from rlstm.export import Runner
from rlstm.export.program import quiet, traced
from rlstm.export.step import ExportedStep

FILE = "policy.pt2"


def check_installed() -> None:
    """Do nothing: torch is there."""


def versions() -> dict[str, str]:
    """Return nothing beside torch's."""
    return {}


def write(step: ExportedStep, folder: Path) -> None:
    """Write ``policy.pt2``."""
    program = traced(step)
    with quiet():
        torch.export.save(program, folder / FILE)


def read(folder: Path) -> Runner:
    """Return a run of the file by torch."""
    with quiet():
        module = torch.export.load(folder / FILE).module()

    @torch.inference_mode()
    def run(inputs: Mapping[str, Array]) -> dict[str, Any]:
        outputs = module({name: torch.as_tensor(array) for name, array in inputs.items()})
        return {name: leaf.numpy() for name, leaf in outputs.items()}

    return run
