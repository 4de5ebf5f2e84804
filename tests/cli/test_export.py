"""``rlstm export``: what it says, and what it refuses before it begins."""

import json
import shutil

import pytest
import torch


def test_a_run_is_exported_and_described(rlstm, trained, workplace):
    found = rlstm(f"export {trained} --format pt2 --out mine --json")
    assert found.code == 0, found.err
    assert found.json["out"] == "mine"
    assert found.json["checkpoint_step"] == 256
    assert found.json["largest_error"] < 1e-4
    described = json.loads((workplace / "mine" / "policy.json").read_text())
    assert set(found.json["files"]) == {"policy.json", "policy.pt2"}
    facts = {"run": "trained", "agent": "ppo", "env": "rlstm/TMaze-v0", "checkpoint_step": 256, "deterministic": False}
    assert {name: described[name] for name in facts} == facts
    assert str(trained.parent) not in json.dumps(described)
    inputs = {
        leaf["name"]: torch.zeros(2, *leaf["shape"][1:], dtype=getattr(torch, leaf["dtype"]))
        for leaf in described["inputs"]
    }
    inputs["action_mask"][:] = True
    assert torch.export.load(workplace / "mine" / "policy.pt2").module()(inputs)["action"].shape == (2,)

    again = rlstm(f"export {trained} --format pt2 --out mine")
    assert (again.code, again.out) == (1, "")
    assert "mine exists already and is no empty folder" in again.err


def test_c_is_a_format_like_the_others(rlstm, trained, workplace):
    found = rlstm(f"export {trained} --format c --out mine --json")
    assert found.code == 0, found.err
    assert set(found.json["files"]) == {"policy.c", "policy.h", "policy.json"}
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    assert (found.json["largest_error"] is None) is (compiler is None)
    described = json.loads((workplace / "mine" / "policy.json").read_text())
    assert described["memory"]["lifetime"] == "episode"
    assert set(described["files"]) == {"policy.c", "policy.h"}


def test_what_c_can_not_hold_is_refused_with_what_it_can(rlstm, train, workplace):
    assert train("--env rlstm/TMaze-v0 --cell mlstm --run-dir heads").code == 0
    found = rlstm("export heads --format c --out mine")
    assert found.code == 1
    assert "mlstm" in found.err
    assert "lstm, gru" in found.err
    assert not (workplace / "mine").exists()


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        ("--out mine", "Unknown format 'onx'. Did you mean 'onnx'?", 2),
        ("--out mine --checkpoint lattest", "--checkpoint takes latest, best, or the step of one", 2),
    ],
)
def test_wrong_words_are_refused(rlstm, trained, workplace, words, message, code):
    found = rlstm(f"export {trained} --format onx {words}")
    assert found.code == code
    assert message in found.err
    assert list(workplace.iterdir()) == []


def test_a_missing_package_is_named_before_the_run_is_read(rlstm, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else name)
    found = rlstm("export nowhere --format onnx --out mine")
    assert found.code == 1
    assert "pip install 'rlstm-torch[export]'" in found.err


def test_a_checkpoint_that_is_not_there_leaves_nothing(rlstm, trained, workplace):
    found = rlstm(f"export {trained} --format pt2 --out mine --checkpoint 99")
    assert found.code == 1
    assert "99" in found.err
    assert list(workplace.iterdir()) == []
