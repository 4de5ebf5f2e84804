"""An export is whole or not there: what is in the folder, and what is refused."""

import hashlib
import json

import numpy as np
import pytest
import torch

from rlstm.core.errors import ExportError
from rlstm.export import pt2, sidecar
from rlstm.export.step import ExportedStep
from rlstm.export.write import export_policy
from tests.export import cases

FACTS = {"run": "mine", "checkpoint_step": 7, "deterministic": True}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / "mine"
    folder.mkdir()
    return export_policy(cases.make_policy("choices"), "pt2", folder, FACTS), folder


def test_the_folder_holds_the_model_and_its_description(exported):
    export, folder = exported
    assert sorted(path.name for path in folder.parent.iterdir()) == ["mine"]
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == export.files
    described = json.loads((folder / "policy.json").read_text())
    assert described["files"] == {"policy.pt2": hashlib.sha256((folder / "policy.pt2").read_bytes()).hexdigest()}
    assert {name: described[name] for name in FACTS} == FACTS
    assert described["versions"]["torch"] == torch.__version__
    assert described["format_version"] == 1
    assert described["memory"] == {
        "lifetime": "trial",
        "episodes_per_trial": 3,
        "reset": "before the first step of every trial",
    }
    assert 0 < export.largest_error < 1e-4


def test_a_pt2_file_runs_by_torch_alone(exported):
    step = ExportedStep(cases.make_policy("choices"))
    outputs = torch.export.load(exported[1] / "policy.pt2").module()(step.example(5))
    assert not outputs["value"].requires_grad
    np.testing.assert_allclose(outputs["parameters"], step(step.example(5))["parameters"], atol=1e-6)


def describe(policy, folder):
    return json.loads(json.dumps(sidecar.describe(ExportedStep(policy), policy, folder, {}, {}), allow_nan=False))


def test_the_description_says_what_goes_in_and_out(tmp_path):
    described = describe(cases.make_policy("dict_and_box"), tmp_path)
    inputs = {leaf["name"]: leaf for leaf in described["inputs"]}
    name = "observation.pair.1"
    assert inputs[name] == {
        "name": name, "shape": [None], "dtype": "int64", "path": ["pair", 1], "low": -1, "high": 1
    }  # fmt: skip
    assert inputs["observation.kinds"]["low"] == [1, 0]
    assert inputs["observation.kinds"]["high"] == [2, 2]
    assert inputs["observation.camera"]["dtype"] == "uint8"
    assert inputs["observation.count"]["dtype"] == "int32"
    assert described["distribution"]["kind"] == "gaussian"
    assert len(described["distribution"]["log_std"]) == 4
    assert described["observation_space"]["camera"].startswith("Box(0, 255, (6, 5, 3)")
    assert {leaf["name"] for leaf in described["outputs"]} >= set(described["feedback"].values())
    assert described["initial_state"] == dict.fromkeys(described["initial_state"], 0.0)


def test_initial_values_that_differ_are_all_there(tmp_path):
    policy = cases.make_policy("gru")
    begins = policy.init_state
    policy.init_state = lambda count: torch.utils._pytree.tree_map(
        lambda leaf: leaf + torch.arange(leaf.shape[1]), begins(count)
    )
    assert describe(policy, tmp_path)["initial_state"] == {"state.actor.h": [float(one) for one in range(8)]}


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        with pytest.raises(ExportError, match=r"exists already and is no empty folder. Name another with --out"):
            export_policy(cases.make_policy("none"), "pt2", tmp_path / name, {})
    assert (tmp_path / "mine" / "notes").read_text() == "mine"


def test_nothing_is_left_of_an_export_that_is_not_the_policy(tmp_path, monkeypatch):
    read = pt2.read

    def wrong(folder):
        run = read(folder)
        return lambda inputs: run({**inputs, "observation": np.zeros_like(inputs["observation"])})

    monkeypatch.setattr(pt2, "read", wrong)
    with pytest.raises(ExportError, match="nothing was written"):
        export_policy(cases.make_policy("none"), "pt2", tmp_path / "mine", {})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    message = r"can't write .*mine: (Not a directory|File exists). Name another folder with --out"
    with pytest.raises(ExportError, match=message):
        export_policy(cases.make_policy("none"), "pt2", tmp_path / "file" / "mine", {})
