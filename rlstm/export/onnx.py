"""ONNX: one file with weights and graph, for onnxruntime and everything else that reads it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import torch

from rlstm.core.errors import ExportError
from rlstm.export import Runner
from rlstm.export.program import quiet, traced
from rlstm.export.step import ExportedStep
from rlstm.runtime.session import open_session, run_session

FILE = "policy.onnx"
_OPSET = 20
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_installed() -> None:
    """Raise ``ExportError`` if a package is missing."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"The format onnx needs {', '.join(missing)}: pip install 'rlstm-torch[export]'")


def versions() -> dict[str, str]:
    """Return those of onnx and its companions."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def write(step: ExportedStep, folder: Path) -> None:
    """Write ``policy.onnx``; ``ExportError`` if the graph can't be made or onnxruntime has no kernel for it."""
    program = traced(step)
    refusal: Exception | None = None
    for optimize in (True, False):  # onnxscript's optimiser can break a graph: where one input is clipped twice.
        try:
            with quiet():
                made = torch.onnx.export(
                    program, dynamo=True, opset_version=_OPSET, external_data=False, verbose=False, optimize=optimize
                )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise _refusal(error) from error
        assert made is not None  # With dynamo it never is.
        _name(made, step)
        made.save(folder / FILE, external_data=False)
        try:
            open_session((folder / FILE).read_bytes())
            return
        except Exception as error:  # onnxruntime's errors have no common class.
            refusal = error
    assert refusal is not None
    raise _refusal(refusal) from refusal


def read(folder: Path) -> Runner:
    """Return a run of the file by onnxruntime."""
    session = open_session((folder / FILE).read_bytes())
    return lambda inputs: run_session(session, inputs)


def _name(made: torch.onnx.ONNXProgram, step: ExportedStep) -> None:
    """Give inputs, outputs and the first axis their names; values inside that have one of these get another."""
    graph = made.model.graph
    ends = [*zip(graph.inputs, step.inputs, strict=True), *zip(graph.outputs, step.outputs, strict=True)]
    taken = {leaf.name for _, leaf in ends}
    for node in graph.all_nodes():
        node.metadata_props.clear()  # Where in the sources it comes from.
        for value in node.outputs:
            value.name = f"inner.{value.name}" if value.name in taken else value.name
    for value, leaf in ends:
        value.name = leaf.name
    if hasattr(made, "rename_axes"):  # Otherwise the axis keeps a name that torch made up.
        rows = graph.inputs[0].shape
        made.rename_axes({} if rows is None else {str(rows[0]): "batch"})


def _refusal(error: BaseException) -> ExportError:
    while error.__cause__ is not None:  # The outer ones tell where to report it.
        error = error.__cause__
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ExportError(f"ONNX can't express this policy ({reason}). Use --format pt2.")
