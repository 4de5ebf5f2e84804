"""A model in onnxruntime, from bytes and by names; one thread, since single steps gain nothing from more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt


def open_session(model: bytes, num_threads: int = 1) -> Any:
    """Return an ``onnxruntime.InferenceSession`` on the CPU.

    Raises:
        ImportError: If onnxruntime is missing, with the remedy.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("rlstm.runtime needs onnxruntime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = num_threads
    options.log_severity_level = 3  # Errors only.
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
