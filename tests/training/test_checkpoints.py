"""Claims about `rlstm.training.checkpoints`: exact round trips, crashes that lose nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from rlstm.core.files import sealed
from rlstm.training import checkpoint_folder, checkpoints
from rlstm.training.checkpoints import (
    CheckpointError,
    check_meta,
    list_checkpoints,
    load_checkpoint,
    repair_checkpoints,
    save_checkpoint,
)

MODEL = {"weight": torch.arange(6.0).reshape(2, 3)}
META = {"env_id": "Recall-v0", "config": {"hidden_size": 8, "sizes": (4, 5)}}


@pytest.fixture(autouse=True)
def _no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def save(run: Path, step: int, *, keep: int = 3, best: bool = False, trainer: Any = None) -> Path:
    model = {"weight": torch.full((2,), float(step))}
    tree = {"step": step} if trainer is None else trainer
    return save_checkpoint(run, step, model, tree, META, keep=keep, best_step=step if best else None)


def reseal(folder: Path) -> None:
    """Make meta.json vouch for the files as they are, as a forger would."""
    head = json.loads((folder / "meta.json").read_text())
    for name in head["files"]:
        data = (folder / name).read_bytes()
        head["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    head.pop("seal")
    (folder / "meta.json").write_text(json.dumps(sealed(head)))


def assert_same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, torch.Tensor):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert left.numpy().tobytes() == right.numpy().tobytes()
    elif isinstance(left, (np.ndarray, np.generic)):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert left.tobytes() == right.tobytes()
    elif isinstance(left, float):
        assert left.hex() == right.hex()
    else:
        assert left == right


def test_trainer_tree_comes_back_bit_for_bit_with_the_same_types(tmp_path: Path) -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
    optimizer.param_groups[0]["params"][0].grad = torch.tensor([0.1, -0.2, 0.3])
    optimizer.step()
    tree = {
        "optimizer": optimizer.state_dict(),
        "torch_generator": torch.get_rng_state(),
        "python_random": random.Random(3).getstate(),
        "pcg": np.random.default_rng(1).bit_generator.state,
        "mt19937": np.random.Generator(np.random.MT19937(2)).bit_generator.state,
        "legacy": np.random.RandomState(0).get_state(),
        "integers": [0, -1, 2**63, -(2**70), 2**2001, 2**3000, -(2**100_000), True, False],
        "floats": (0.1, -0.0, float("nan"), float("inf"), 5e-324),
        "none": None,
        "text": "größer",
        "nested": ([], (), {}, ((1,), [2, (3,)])),
        7: {"key": "of type int"},
        "tensors": [
            torch.tensor(True),
            torch.zeros(0, 3),
            torch.tensor([1.5, float("nan")], dtype=torch.bfloat16).float(),
        ],
        "arrays": [
            np.array([2**64 - 1, 0], dtype=np.uint64),
            np.array([True, False]),
            np.array([0.1, np.nan, -0.0], dtype=np.float32),
            np.array([1.5], dtype=np.float16),
            np.array([1 + 2j]),
            np.array(5, dtype=np.int8),
            np.zeros((0, 4)),
            np.asfortranarray(np.arange(6).reshape(2, 3)),
            np.arange(10)[::3],
            np.arange(3, dtype=">i4"),
        ],
        "scalars": [np.float64(0.1), np.float32(0.1), np.uint64(2**64 - 1), np.bool_(True), np.int16(-3)],
    }
    save(tmp_path, 1, trainer=tree)
    assert_same(load_checkpoint(tmp_path, "latest").trainer, tree)


def test_restored_generators_continue_the_same_stream(tmp_path: Path) -> None:
    generator, python = np.random.default_rng(5), random.Random(5)
    generator.random(3), python.random()
    save(tmp_path, 1, trainer={"numpy": generator.bit_generator.state, "python": python.getstate()})
    trainer = load_checkpoint(tmp_path, 1).trainer
    other, other_python = np.random.default_rng(), random.Random()
    other.bit_generator.state = trainer["numpy"]
    other_python.setstate(trainer["python"])
    assert (other.random(4) == generator.random(4)).all()
    assert other_python.random() == python.random()


def test_loaded_arrays_can_be_written_to(tmp_path: Path) -> None:
    save(tmp_path, 1, trainer=[np.zeros(3)])
    load_checkpoint(tmp_path, 1).trainer[0][0] = 1


class Pair(NamedTuple):
    hidden: int
    cell: int


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([object()]), r"trainer\['rng'\]\[1\] is a ndarray of dtype object"),
        (np.array(["text"]), r"trainer\['rng'\]\[1\] is a ndarray of dtype <U4"),
        (np.str_("text"), r"trainer\['rng'\]\[1\] is a str_ of dtype"),
        (Pair(1, 2), r"is a Pair.*tuple\(value\)"),
        ({1.5: 0}, r"is a dict with the keys \[1.5\]"),
        ({"__rlstm__": 0}, "__rlstm__"),
        (Path(), r"PosixPath|WindowsPath"),
        (torch.eye(2).to_sparse(), "sparse"),
    ],
)
def test_what_a_trainer_tree_cannot_hold_is_refused_by_its_place(tmp_path: Path, value: Any, message: str) -> None:
    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path, 2, trainer={"rng": [0, value]})
    assert load_checkpoint(tmp_path, "latest").step == 1


def test_model_keeps_shared_strided_and_odd_tensors(tmp_path: Path) -> None:
    storage = torch.arange(12.0)
    model = {
        "tied": storage,
        "tied_again": storage,
        "view": storage[3:6],
        "transposed": storage.reshape(3, 4).T,
        "expanded": torch.tensor([1.0]).expand(5),
        "parameter": torch.nn.Parameter(torch.tensor([float("nan"), -0.0])),
        "bfloat16": torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 2),
        "flags": torch.tensor([True, False]),
    }
    save_checkpoint(tmp_path, 1, model, None, {}, keep=1)
    loaded = load_checkpoint(tmp_path, "latest").model
    assert set(loaded) == set(model)
    for name, tensor in model.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name].nan_to_num(7), tensor.detach().nan_to_num(7)), name
    storage[0] = 99
    assert loaded["tied"][0] == 0


def test_a_small_view_does_not_drag_its_storage_into_the_file(tmp_path: Path) -> None:
    path = save(tmp_path, 1, trainer={"view": torch.zeros(1_000_000)[:2]})
    assert (path / "trainer.pt").stat().st_size < 10_000


def test_model_refuses_what_is_no_tensor(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\['count'\] is int, not a tensor"):
        save_checkpoint(tmp_path, 1, {"count": 1}, None, {}, keep=1)  # type: ignore[dict-item]


def test_layout_and_meta(tmp_path: Path) -> None:
    path = save(tmp_path, 40, best=True)
    assert path == tmp_path / "checkpoints" / "step_40"
    assert {file.name for file in path.iterdir()} == {"model.safetensors", "trainer.pt", "meta.json"}
    assert {file.name for file in path.parent.iterdir()} == {"step_40", "latest", "best"}
    assert (path.parent / "latest").read_text() == (path.parent / "best").read_text() == "step_40\n"
    head = json.loads((path / "meta.json").read_text())
    assert head["format_version"] == checkpoints.FORMAT_VERSION
    assert head["rlstm_version"]
    assert head["step"] == 40
    loaded = load_checkpoint(tmp_path, "latest")
    assert loaded.meta == {"env_id": "Recall-v0", "config": {"hidden_size": 8, "sizes": [4, 5]}}
    assert loaded.path == path


def test_latest_best_a_step_and_a_path_are_found(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step, best=step == 20)
    steps = [load_checkpoint(tmp_path, which).step for which in ("latest", "best", 10)]
    assert steps == [30, 20, 10]
    copy = Path(shutil.copytree(tmp_path / "checkpoints" / "step_20", tmp_path / "elsewhere" / "copy"))
    assert load_checkpoint("unused", copy).model["weight"][0] == 20


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (9, 10, 20, 100, 200):
        save(tmp_path, step, keep=2, best=step == 10)
    assert list_checkpoints(tmp_path) == [10, 100, 200]
    save(tmp_path, 300, keep=1, best=True)
    assert list_checkpoints(tmp_path) == [300]


def test_after_resuming_from_an_earlier_step_the_abandoned_later_ones_go_first(tmp_path: Path) -> None:
    for step in (100, 200, 300):
        save(tmp_path, step)
    save(tmp_path, 150)
    assert list_checkpoints(tmp_path) == [100, 150, 300]
    save(tmp_path, 160)
    assert list_checkpoints(tmp_path) == [100, 150, 160]
    assert load_checkpoint(tmp_path, "latest").step == 160


def test_saving_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 10, trainer="first")
    save(tmp_path, 10, trainer="second")
    assert load_checkpoint(tmp_path, 10).trainer == "second"
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["latest", "step_10"]
    assert list_checkpoints(tmp_path) == [10]


def test_a_checkpoint_that_was_moved_aside_but_not_replaced_comes_back(tmp_path: Path) -> None:
    save(tmp_path, 10, trainer="first")
    folder = tmp_path / "checkpoints"
    (folder / "step_10").rename(folder / ".old_step_10")  # A crash while step 10 was saved again.
    save(tmp_path, 20)
    assert list_checkpoints(tmp_path) == [10, 20]
    assert load_checkpoint(tmp_path, 10).trainer == "first"


@pytest.mark.parametrize(("keep", "step"), [(0, 1), (1, -1)])
def test_nonsense_numbers_are_refused(tmp_path: Path, keep: int, step: int) -> None:
    with pytest.raises(CheckpointError, match=f"keep={keep} and step={step}"):
        save(tmp_path, step, keep=keep)


@pytest.mark.parametrize("content", [None, b"", b"\x00\xff", b"step_20", b"step_99"])
def test_latest_and_best_are_known_without_their_pointers(tmp_path: Path, content: bytes | None) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step, best=step == 10)
    for pointer in ("latest", "best"):
        path = tmp_path / "checkpoints" / pointer
        path.unlink() if content is None else path.write_bytes(content)
    save_checkpoint(tmp_path, 40, MODEL, {}, META, keep=9, best_step=10)
    (tmp_path / "checkpoints" / "best").write_text("step_20\n")
    assert [load_checkpoint(tmp_path, which).step for which in ("latest", "best")] == [40, 10]
    repair_checkpoints(tmp_path)
    assert [(tmp_path / "checkpoints" / name).read_text() for name in ("latest", "best")] == ["step_40\n", "step_10\n"]


def test_the_latest_is_the_one_saved_last_not_the_one_of_most_steps(tmp_path: Path) -> None:
    for step in (100, 200, 300):
        save(tmp_path, step)
    shutil.rmtree(tmp_path / "checkpoints" / "step_300")
    assert load_checkpoint(tmp_path, "latest").step == 200
    save(tmp_path, 150)
    (tmp_path / "checkpoints" / "latest").unlink()
    assert load_checkpoint(tmp_path, "latest").step == 150


def test_among_checkpoints_of_earlier_versions_the_pointers_count(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        meta = save(tmp_path, step) / "meta.json"
        head = json.loads(meta.read_text())
        meta.write_text(json.dumps({name: head[name] for name in head if name not in ("save", "best_step", "seal")}))
    folder = tmp_path / "checkpoints"
    assert load_checkpoint(tmp_path, "latest").step == 30
    (folder / "latest").write_text("step_20\n")
    (folder / "best").write_text("step_10\n")
    assert [load_checkpoint(tmp_path, which).step for which in ("latest", "best")] == [20, 10]
    (folder / "latest").unlink()
    assert [load_checkpoint(tmp_path, which).step for which in ("latest", "best")] == [30, 10]


@pytest.mark.parametrize("change", [{"step": 5}, {"best_step": 10}, {"save": 7}, {"meta": {}}, {"seal": "0" * 64}])
def test_no_value_of_the_meta_file_can_change_unnoticed(tmp_path: Path, change: dict[str, Any]) -> None:
    save(tmp_path, 10)
    meta = save(tmp_path, 64) / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | change))
    with pytest.raises(CheckpointError, match=r"step_64/meta\.json is damaged: it is "):
        load_checkpoint(tmp_path, "latest")
    with pytest.raises(CheckpointError, match=r"step_64/meta\.json is damaged: it is "):
        load_checkpoint(tmp_path, 64)


def test_a_checkpoint_under_the_name_of_another_step_is_refused_without_a_seal(tmp_path: Path) -> None:
    meta = save(tmp_path, 64) / "meta.json"
    head = json.loads(meta.read_text())
    del head["seal"]
    meta.write_text(json.dumps(head | {"step": 5}))
    with pytest.raises(CheckpointError, match=r"meta\.json is damaged: it is of step 5"):
        load_checkpoint(tmp_path, "latest")


class Crash(BaseException):
    """Stands for the process dying: no handler of the library may swallow it or tidy up after it."""


# Everything through which saving touches the disk; a crash is tried before and after each call.
TOUCHES = [
    (Path, "mkdir"),
    (Path, "rename"),
    (shutil, "rmtree"),
    (checkpoints, "write_atomically"),
    (checkpoint_folder, "write_atomically"),
    (checkpoints, "write_json"),
]


def crash_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Let the process "die" at the given moment, counted over all disk operations, each before and after."""
    clock = iter(range(10**6))

    def wrap(function: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if next(clock) == moment:
                if function.__name__ == "rmtree":  # It dies half-way, with some of the files gone.
                    next(path for path in args[0].rglob("*") if path.is_file()).unlink()
                raise Crash
            result = function(*args, **kwargs)
            if next(clock) == moment:
                raise Crash
            return result

        return wrapped

    for owner, name in TOUCHES:
        monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))


@pytest.mark.parametrize("new_step", [30, 20], ids=["new step", "same step again"])
def test_a_crash_at_any_moment_leaves_latest_and_best_loadable(tmp_path: Path, new_step: int) -> None:
    crashes = outcomes = 0
    seen = set()
    for moment in range(200):
        run = tmp_path / str(moment)
        save(run, 10, best=True)
        save(run, 20, trainer="old")
        with pytest.MonkeyPatch.context() as patch:
            crash_at(patch, moment)
            try:
                save(run, new_step, keep=1, best=True, trainer="new")
                outcomes += 1
            except Crash:
                crashes += 1
        latest, best = load_checkpoint(run, "latest"), load_checkpoint(run, "best")
        assert latest.trainer == ("new" if latest.step == 30 else latest.trainer)
        assert best.step == (new_step if latest.trainer == "new" else 10)  # Together, never one without the other.
        assert all(load_checkpoint(run, step).step == step for step in list_checkpoints(run))
        seen.add((latest.step, latest.trainer, best.step))
        save(run, 40, keep=1)  # The next save goes through and clears up.
        assert load_checkpoint(run, "latest").step == 40
        assert not [path for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]
        if outcomes:
            break
    assert crashes > 15
    assert {(20, "old", 10), (new_step, "new", new_step)} <= seen


@pytest.mark.slow  # The crashes above in one process are the same, and many.
def test_a_killed_process_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 10)
    script = (
        "import os, signal, sys, torch\nfrom pathlib import Path\nfrom rlstm.training import checkpoints\n"
        "checkpoints.write_json = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoints.save_checkpoint(sys.argv[1], 20, {'w': torch.ones(2)}, {}, {}, keep=1)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    assert list_checkpoints(tmp_path) == [10]
    assert load_checkpoint(tmp_path, "latest").step == 10


def test_a_full_disk_is_reported_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 10)

    def no_space(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_atomically", no_space)
    with pytest.raises(CheckpointError, match=r"step_20: No space left on device.*rlstm resume"):
        save(tmp_path, 20)
    assert load_checkpoint(tmp_path, "latest").step == 10


def test_what_is_missing_is_answered_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"latest does not exist.*train first"):
        load_checkpoint(tmp_path, "latest")
    save(tmp_path, 10)
    save(tmp_path, 20)
    for which in ("best", 15):
        with pytest.raises(CheckpointError, match=r"(best|step_15) does not exist.*steps there are: 10, 20"):
            load_checkpoint(tmp_path, which)
    with pytest.raises(CheckpointError, match="no checkpoint 'newest': give latest, best"):
        load_checkpoint(tmp_path, "newest")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="nowhere is not a folder"):
        load_checkpoint(tmp_path, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.pt", "meta.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped", "zeroed"])
def test_a_damaged_file_is_named_with_the_reason(tmp_path: Path, name: str, damage: str) -> None:
    save(tmp_path, 10)
    file = save(tmp_path, 20) / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    if damage == "missing":
        file.unlink()
    else:
        parts = {"empty": b"", "truncated": file.read_bytes()[:-9], "flipped": bytes(data), "zeroed": bytes(len(data))}
        file.write_bytes(parts[damage])
    reason = {"missing": "can't be", "empty": "truncated|is empty", "truncated": "truncated|damaged"}.get(damage)
    with pytest.raises(CheckpointError, match=rf"{name}.*({reason or 'damaged|decode'}).*steps there are: 10, 20"):
        load_checkpoint(tmp_path, "latest")
    assert load_checkpoint(tmp_path, 10).step == 10


def test_another_format_version_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    meta = save(tmp_path, 10) / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format_version": 99, "rlstm_version": "7.0"}))
    with pytest.raises(CheckpointError, match=r"meta.json has format_version 99 \(written by rlstm 7.0\).*reads 1"):
        load_checkpoint(tmp_path, "latest")


@pytest.mark.parametrize("change", [{"files": {}}, {"step": "10"}, {"meta": None}, {"files": {"trainer.pt": 3}}])
def test_a_meta_file_of_another_shape_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    meta = save(tmp_path, 10) / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | change))
    with pytest.raises(CheckpointError, match=r"meta.json is damaged"):
        load_checkpoint(tmp_path, "latest")


class Malicious:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def as_pickle(victim: Any) -> bytes:
    return pickle.dumps(victim)


def as_ascii_pickle(victim: Any) -> bytes:
    return pickle.dumps(victim, protocol=0)


def as_torch_archive(victim: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save({"optimizer": victim}, buffer)
    return buffer.getvalue()


def as_legacy_torch_file(victim: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save({"optimizer": victim}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def as_bare_zip(victim: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(victim, protocol=2))
        archive.writestr("archive/version", "3")
    return buffer.getvalue()


@pytest.mark.parametrize("sealed", [False, True], ids=["swapped in", "with matching sums"])
@pytest.mark.parametrize("pack", [as_pickle, as_ascii_pickle, as_torch_archive, as_legacy_torch_file, as_bare_zip])
def test_a_malicious_trainer_file_is_refused_and_not_executed(tmp_path: Path, pack: Any, sealed: bool) -> None:
    folder, trace = save(tmp_path, 10), tmp_path / "executed"
    data = pack(Malicious(trace))
    (folder / "trainer.pt").write_bytes(data)
    if sealed:
        reseal(folder)
    with pytest.raises(CheckpointError, match=r"trainer\.pt") as caught:
        load_checkpoint(tmp_path, "latest")
    assert not trace.exists()
    assert "weights_only" not in str(caught.value)
    if sealed:
        assert "plain pickle" in str(caught.value) or "Nothing in it was executed" in str(caught.value)
    if pack is as_torch_archive:
        torch.load(io.BytesIO(data), weights_only=False)
        assert trace.exists(), "this attack would have done nothing anyway"


@pytest.mark.parametrize("dtype", ["O", "U2", "M8[ns]", "V8", "nonsense"])
def test_a_trainer_file_with_a_forbidden_array_type_is_refused(tmp_path: Path, dtype: str) -> None:
    folder = save(tmp_path, 10)
    array = {"__rlstm__": "array", "dtype": dtype, "shape": [1], "data": torch.zeros(8, dtype=torch.uint8)}
    torch.save(array, folder / "trainer.pt")
    reseal(folder)
    with pytest.raises(CheckpointError, match=r"trainer\.pt holds more than"):
        load_checkpoint(tmp_path, "latest")


def test_a_foreign_model_file_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, 10)
    torch.save({"weight": torch.ones(2)}, folder / "model.safetensors")
    reseal(folder)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is no safetensors file"):
        load_checkpoint(tmp_path, "latest")


def test_check_meta_names_every_differing_key_with_both_values(tmp_path: Path) -> None:
    save(tmp_path, 10)
    checkpoint = load_checkpoint(tmp_path, "latest")
    check_meta(checkpoint, META)
    check_meta(checkpoint, {"env_id": "Recall-v0"})
    expected = {"env_id": "Other-v0", "config": {"hidden_size": 16, "sizes": (4, 5)}, "agent": "ppo"}
    with pytest.raises(CheckpointError) as caught:
        check_meta(checkpoint, expected)
    lines = str(caught.value).splitlines()
    assert lines[1:-1] == [
        "  env_id: the checkpoint has 'Recall-v0', expected 'Other-v0'",
        "  config.hidden_size: the checkpoint has 8, expected 16",
        "  agent: the checkpoint has None, expected 'ppo'",
    ]
