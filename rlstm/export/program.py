"""A step as a graph of ``torch.export``, from which formats are written."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rlstm.core.errors import ExportError
from rlstm.export.step import ExportedStep

_EXAMPLE_ROWS = 3  # 0 and 1 would be taken for constants.


def traced(step: ExportedStep) -> torch.export.ExportedProgram:
    """Return the graph of a step for any number of rows.

    Raises:
        ExportError: If the step looks at the values of tensors to decide what it does.
    """
    inputs = step.example(_EXAMPLE_ROWS)
    rows = torch.export.Dim("batch", min=1)
    shapes = {name: {0: rows} for name in inputs}
    try:
        with quiet():
            program = torch.export.export(step, (inputs,), dynamic_shapes=(shapes,), strict=False)
    except Exception as error:  # torch has many of them.
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"This policy is no fixed graph ({reason}): neither onnx nor pt2 can express it.") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # It holds the paths of this machine.
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what torch and onnxscript tell of their own insides."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
