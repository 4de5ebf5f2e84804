"""What each format writes equals the policy: some policies here, all of them in the slow tier."""

import pytest
import torch

from rlstm.core.errors import ExportError, UnknownNameError
from rlstm.export import FORMATS, open_format
from rlstm.export.check import check
from rlstm.export.step import ExportedStep
from tests.export import cases

QUICK = {"onnx": ["start"], "pt2": ["dict_and_box", "conv_lstm"]}


def written(case, name, folder):
    policy = cases.make_policy(case)
    step = ExportedStep(policy)
    open_format(name).write(step, folder)
    return policy, step, open_format(name).read(folder)


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, some in QUICK.items() for case in some])
def test_a_file_does_what_the_policy_does(name, case, tmp_path):
    policy, step, run = written(case, name, tmp_path)
    assert check(step, policy, run) < 1e-5
    (file,) = tmp_path.iterdir()
    assert file.name == f"policy.{name}"
    assert b"step.py" not in file.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("case", cases.CASES)
@pytest.mark.parametrize("name", FORMATS)
def test_every_policy_can_be_written(name, case, tmp_path):
    policy, step, run = written(case, name, tmp_path)
    assert check(step, policy, run) < 1e-3


def test_a_broken_weight_in_the_file_is_noticed(tmp_path):
    import onnx
    from onnx import numpy_helper

    policy, step, run = written("none", "onnx", tmp_path)
    assert check(step, policy, run) < 1e-5
    graph = onnx.load(tmp_path / "policy.onnx")
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [one.name for one in graph.graph.input] == [leaf.name for leaf in step.inputs]
    (bias,) = [one for one in graph.graph.initializer if one.name.endswith("cell.bias")]
    values = numpy_helper.to_array(bias).copy()
    values[2] += 1e-3
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(graph, tmp_path / "policy.onnx")
    with pytest.raises(ExportError, match="the output 'parameters' has an error of"):
        check(step, policy, open_format("onnx").read(tmp_path))


def test_an_unknown_format_names_those_there_are():
    with pytest.raises(UnknownNameError, match=r"Unknown format 'onx'. Did you mean 'onnx'\? Valid: .*pt2"):
        open_format("onx")


def test_a_missing_package_names_the_remedy(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ExportError, match=r"onnx needs onnxscript: pip install 'rlstm-torch\[export\]'"):
        open_format("onnx").check_installed()


def test_a_step_that_looks_at_values_is_refused(tmp_path, monkeypatch):
    policy = cases.make_policy("gru")
    step = ExportedStep(policy)
    forward = step.forward
    monkeypatch.setattr(step, "forward", lambda inputs: forward(inputs) if inputs["reset"].any() else {})
    with pytest.raises(ExportError, match="no fixed graph"):
        open_format("pt2").write(step, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_onnx_has_no_operator_for_is_refused_by_name(tmp_path, monkeypatch):
    step = ExportedStep(cases.make_policy("gru"))
    forward = step.forward

    def special(inputs):
        outputs = forward(inputs)
        return outputs | {"value": torch.special.airy_ai(outputs["value"])}

    monkeypatch.setattr(step, "forward", special)
    with pytest.raises(ExportError, match=r"ONNX can't express this policy .*airy_ai.*Use --format pt2"):
        open_format("onnx").write(step, tmp_path)


@pytest.mark.slow
def test_images_in_float64_are_refused_where_onnxruntime_has_no_kernel(tmp_path):
    policy = cases.make_policy("conv_lstm").double()
    with pytest.raises(ExportError, match=r"ONNX can't express this policy .*Conv.*Use --format pt2"):
        open_format("onnx").write(ExportedStep(policy), tmp_path)
