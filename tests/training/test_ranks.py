"""Ranks give what one process gives: weights, statistics and counts, for every agent, also after a resume."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import rlstm
from rlstm.core.ranks import ALONE, Ranks, torchrun_ranks
from rlstm.training.on_policy import Training

TINY = {"hidden_size": 8, "encoder_sizes": [8], "eval_episodes": 3, "dtype": "float64", "keep_checkpoints": 50}
PPO = {**TINY, "agent": "ppo", "num_envs": 8, "num_steps": 16, "total_steps": 20 * 128, "checkpoint_every": 5 * 128}
TRIALS = {"lifetime": "trial", "episodes_per_trial": 2}
CASES: dict[str, dict[str, Any]] = {
    "ppo": {**PPO, "env": "rlstm/TMaze-v0", "env_kwargs": {"corridor_length": 5}},
    "ppo_trials": {
        **PPO,
        "num_steps": 8,
        "sequence_length": 2,
        "env": "rlstm/BernoulliBandit-v0",
        "memory": TRIALS,
        "popart": True,
        "critic_memory": "separate",
        "target_kl": 0.001,
        "num_minibatches": 16,
        "total_steps": 10 * 64,
        "checkpoint_every": 2 * 64,
    },
    "ppo_numbers": {**PPO, "env": "rlstm/PendulumNoVel-v0", "vectorization": "sync", "clip_vloss": 0.2},
    "ppo_vtrace": {**PPO, "env": "rlstm/TMaze-v0", "advantages": "vtrace"},
    "reinforce": {
        **TINY,
        "agent": "reinforce",
        "num_envs": 4,
        "num_episodes": 6,
        "total_steps": 1500,
        "env": "rlstm/TMaze-v0",
        "env_kwargs": {"corridor_length": 5},
        "critic_memory": "separate",
        "baseline": "history",
    },
    "evolino": {
        **TINY,
        "agent": "evolino",
        "num_envs": 2,
        "total_steps": 6000,
        "population": 24,
        "vectorization": "sync",  # Three shards: in its own batched form this would be one.
        "env": "rlstm/SinglePoleNoVel-v0",
        "readout": "joint",
    },
}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def start_ranks(count: int, *words: str, **variables: str) -> list[subprocess.Popen[str]]:
    """Start a command in so many ranks, as torchrun does on one machine."""
    of_all = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **of_all, "RANK": str(rank), "LOCAL_RANK": str(rank), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def wait_for(ranks: list[subprocess.Popen[str]]) -> list[int]:
    """Wait for the ends of ranks; returns their exit codes."""
    try:
        told = [rank.communicate(timeout=240) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    print(told)  # Shown where a test fails.
    return [rank.returncode for rank in ranks]


SCRIPT = str(Path(__file__).with_name("rank_runs.py"))


def write_cases(folder: Path, cases: dict[str, Any]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    return str(folder / "cases.json")


def stop_rank_1(folder: Path, case: str, number: signal.Signals, num_rows: int) -> list[int]:
    """Train a case in two ranks, or go on with it, and send rank 1 a signal after some updates; returns exit codes."""
    ranks = start_ranks(2, SCRIPT, write_cases(folder, {case: CASES[case]}), str(folder))
    path, deadline = folder / case / "progress.csv", time.monotonic() + 120
    while not (path.exists() and path.read_text(encoding="utf-8").count("\n") > num_rows):
        assert all(rank.poll() is None for rank in ranks), wait_for(ranks)
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ranks[1].send_signal(number)
    return wait_for(ranks)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``alone/CASE`` and ``two/CASE``: the same runs by one process and by two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    cases = write_cases(folder, CASES)
    assert wait_for(start_ranks(2, SCRIPT, cases, str(folder / "two"))) == [0, 0]
    for name, settings in CASES.items():
        rlstm.train(**settings, run_dir=str(folder / "alone" / name), ui="none", num_threads=1)
    return folder


def weights(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    paths = sorted((run / "checkpoints").glob("step_*/model.safetensors"))
    return {path.parent.name: load_file(path) for path in paths}


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "progress.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_give_the_weights_of_one_process(runs: Path, case: str) -> None:
    alone, two = weights(runs / "alone" / case), weights(runs / "two" / case)
    assert alone.keys() == two.keys()
    assert len(alone) > 3
    for step, expected in alone.items():
        for name, tensor in expected.items():
            error = float((two[step][name].double() - tensor.double()).abs().max())
            assert error <= (0.0 if case == "evolino" else 1e-9), f"{step} {name}: {error}"


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_count_the_steps_and_episodes_of_both(runs: Path, case: str) -> None:
    alone, two = rows(runs / "alone" / case), rows(runs / "two" / case)
    assert len(alone) == len(two) > 3
    exact = ("step", "rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/success_rate", "rollout/episodes")
    near = ("train/approx_kl", "train/value_loss", "train/grad_norm", "train/explained_variance", "eval/mean_reward")
    for one, other in zip(alone, two, strict=True):
        assert [one.get(name) for name in exact] == [other.get(name) for name in exact]
        for name in near:
            if one.get(name):
                assert float(other[name]) == pytest.approx(float(one[name]), abs=1e-6), name


def test_a_process_that_torchrun_has_not_started_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert torchrun_ranks() == (0, 1)
    tensor = torch.ones(2, 3)
    ALONE.sum_(tensor)
    assert tensor.tolist() == [[1.0] * 3] * 2
    assert ALONE.gather("a") == ["a"]
    assert ALONE.columns(tensor)[0] is tensor


def test_every_env_is_one_ranks_own() -> None:
    envs = list(range(12))
    assert [envs[Ranks(rank, 3).own(12)] for rank in range(3)] == [envs[:4], envs[4:8], envs[8:]]


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"num_envs": 3, "num_minibatches": 1}, "num_envs is 3"), ({"exploration": "rnd"}, "exploration is 'rnd'")],
)
def test_what_ranks_cannot_share_is_refused(settings: dict[str, Any], told: str) -> None:
    from rlstm.agents import ppo
    from rlstm.api.configs import make_config
    from rlstm.vector.make import resolve_spec

    config = make_config("ppo", env="rlstm/TMaze-v0", device="cpu", **{"num_envs": 4, **settings})
    with pytest.raises(ValueError, match=told):
        Training(config, ppo.PPO, resolve_spec(config.env), Ranks(0, 2))


def assert_equal(one: Path, other: Path) -> None:
    """Assert that the last weights of two runs are the same to the last bit."""
    last, expected = (weights(run) for run in (one, other))
    step = max(expected, key=lambda name: int(name.removeprefix("step_")))
    for name, tensor in expected[step].items():
        assert torch.equal(last[step][name], tensor), name


def test_ranks_stop_together_and_a_resume_gives_the_same_run(runs: Path, tmp_path: Path) -> None:
    assert stop_rank_1(tmp_path, "ppo", signal.SIGTERM, num_rows=2) == [0, 0]
    stopped = len(rows(tmp_path / "ppo"))
    assert wait_for(start_ranks(2, SCRIPT, write_cases(tmp_path, {"ppo": {}}), str(tmp_path))) == [0, 0]
    assert stopped < len(rows(tmp_path / "ppo"))
    assert_equal(tmp_path / "ppo", runs / "two" / "ppo")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ppo", "ppo_numbers", "reinforce", "evolino"])
def test_a_killed_rank_ends_the_run_which_goes_on_from_its_checkpoint(runs: Path, tmp_path: Path, case: str) -> None:
    codes = stop_rank_1(tmp_path, case, signal.SIGKILL, num_rows=4)
    assert codes[0] == 1
    assert codes[1] == -signal.SIGKILL
    assert wait_for(start_ranks(2, SCRIPT, write_cases(tmp_path, {case: {}}), str(tmp_path))) == [0, 0]
    assert_equal(tmp_path / case, runs / "two" / case)


def test_another_number_of_ranks_begins_new_episodes_and_says_so(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "two" / "ppo", tmp_path / "run")
    rlstm.resume(tmp_path / "run", total_steps=CASES["ppo"]["total_steps"] + 1000, ui="plain")
    told = capsys.readouterr().err
    assert "The run had 2 rank(s) up to here and goes on with 1: every env begins a new episode" in told
    episodes = [float(row["rollout/episodes"]) for row in rows(tmp_path / "run") if row["rollout/episodes"]]
    assert episodes == sorted(episodes)


@pytest.mark.slow
def test_four_ranks_give_the_weights_of_one_process(runs: Path, tmp_path: Path) -> None:
    cases = write_cases(tmp_path, {name: CASES[name] for name in ("ppo", "reinforce", "evolino")})
    assert wait_for(start_ranks(4, SCRIPT, cases, str(tmp_path))) == [0] * 4
    for name in ("ppo", "reinforce", "evolino"):
        alone, four = weights(runs / "alone" / name), weights(tmp_path / name)
        assert alone.keys() == four.keys()
        for step, expected in alone.items():
            for key, tensor in expected.items():
                assert float((four[step][key].double() - tensor.double()).abs().max()) <= 1e-9


EVOLINO = {**CASES["evolino"], "total_steps": 1500}
TAUGHT = {**EVOLINO, "env": "rlstm/AnBnCn-v0", "env_kwargs": {"max_n": 2}}
OF_EVOLUTION: dict[str, dict[str, Any]] = {
    **{name: {**EVOLINO, "strategy": name} for name in ("snes", "esp", "cosyne", "open-es", "sep-cma-es", "cma-es")},
    **{name: {**TAUGHT, "readout": name} for name in ("lstsq", "ridge", "svm")},
    "cma": {**EVOLINO, "readout": "cma"},
    "rwr": {**EVOLINO, "readout": "rwr"},
    "error": {**TAUGHT, "readout": "ridge", "env": "rlstm/Sines-v0", "env_kwargs": {}, "fitness": "error"},
}


@pytest.mark.slow
def test_evolution_is_the_same_to_the_last_bit_for_every_strategy_and_readout(tmp_path: Path) -> None:
    cases = write_cases(tmp_path, OF_EVOLUTION)
    assert wait_for(start_ranks(2, SCRIPT, cases, str(tmp_path / "two"))) == [0, 0]
    for name, settings in OF_EVOLUTION.items():
        rlstm.train(**settings, run_dir=str(tmp_path / "alone" / name), ui="none", num_threads=1)
        assert_equal(tmp_path / "two" / name, tmp_path / "alone" / name)


@pytest.mark.slow
def test_torchrun_starts_a_lost_run_again_which_goes_on(tmp_path: Path) -> None:
    flags = "--env rlstm/TMaze-v0 --num-envs 8 --num-steps 32 --total-steps 20000 --hidden-size 8 --num-threads 1"
    words = ["train", "ppo", *flags.split(), "--eval-episodes", "3", "--ui", "none", "--run-dir"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    lost, whole = tmp_path / "lost", tmp_path / "whole"
    subprocess.run([*torchrun, "-m", "rlstm", *words, str(whole)], check=True, capture_output=True, timeout=300)
    process = subprocess.Popen(
        [*torchrun, "--max-restarts", "2", "-m", "rlstm", *words, str(lost)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(list((lost / "checkpoints").glob("step_*/meta.json"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert process.wait(timeout=300) == 0
    assert_equal(lost, whole)
