"""Wherever an env breaks, its run ends with a clear error and goes on later to the weights of a run without a fault."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from rlstm.api import experiments
from rlstm.core.errors import EnvironmentFailure
from rlstm.training.checkpoints import Checkpoint, load_checkpoint
from rlstm.training.run_directory import RunDirectory
from tests.faulty_env import ID, FaultyEnv

UPDATES = 4
TINY: dict[str, Any] = {
    "env": ID,
    "env_import": ("tests.faulty_env",),
    "num_envs": 2,
    "hidden_size": 4,
    "encoder_sizes": (),
    "num_threads": 1,
    "eval_episodes": 2,
    "total_steps": 16 * UPDATES,
    "eval_every": 32,
    "checkpoint_every": 1,
    "keep_checkpoints": 99,
    "ui": "none",
}
AGENTS: dict[str, dict[str, Any]] = {
    "ppo": {"num_steps": 8, "update_epochs": 1, "num_minibatches": 1},
    "reinforce": {"num_episodes": 2},
    "evolino": {"population": 2, "episodes": 1, "total_steps": 60},
}
WORDS = {
    "raise": "OSError: the simulator has gone",
    "sys.exit": "SystemExit: no licence",
    "die": "with the exit code 5",
}


@pytest.fixture(autouse=True)
def works_again() -> Iterator[None]:
    """Arrange no fault for other tests."""
    FaultyEnv.arrange(None)
    yield
    FaultyEnv.arrange(None)


def train(agent: str, kind: str, path: Path, **settings: Any) -> None:
    experiments.train(agent, run_dir=str(path), vectorization=kind, **{**TINY, **AGENTS[agent], **settings})


def latest(path: Path) -> Checkpoint:
    return load_checkpoint(RunDirectory(path), "latest")


def weights(path: Path) -> dict[str, Tensor]:
    return latest(path).model


def assert_recovers(
    fault: tuple[str, str, int], agent: str, kind: str, whole: dict[str, Tensor], path: Path, **settings: Any
) -> bool:
    """Train with a fault, then go on without; returns whether the fault was met."""
    FaultyEnv.arrange(fault)
    try:
        train(agent, kind, path, **settings)
        met = False
    except EnvironmentFailure as error:
        met = True
        assert WORDS[fault[0]] in str(error), fault  # noqa: PT017 - not every number is met.
    FaultyEnv.arrange(None)
    if not (path / "config.json").exists():
        assert met, fault  # It could not even be made.
        return True
    if met and latest(path).step < settings.get("total_steps", AGENTS[agent].get("total_steps", TINY["total_steps"])):
        experiments.resume(path, ui="none")
    found = weights(path)
    assert all(tensor.equal(found[name]) for name, tensor in whole.items()), fault
    return met


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """The last weights of each agent without a fault, which are the same for every kind."""
    FaultyEnv.arrange(None)
    paths = {agent: tmp_path_factory.mktemp("whole") / agent for agent in AGENTS}
    for agent, path in paths.items():
        train(agent, "sync", path)
    return {agent: weights(path) for agent, path in paths.items()}


@pytest.mark.parametrize(
    ("agent", "kind", "fault"),
    [
        pytest.param("ppo", "sync", ("raise", "step", 1), marks=pytest.mark.slow),
        ("ppo", "sync", ("raise", "step", 50)),
        ("ppo", "sync", ("sys.exit", "reset", 9)),
        ("ppo", "async", ("die", "step", 20)),
        ("ppo", "async", ("die", "reset", 2)),
        pytest.param("ppo", "async", ("sys.exit", "step", 13), marks=pytest.mark.slow),
        ("ppo", "async", ("hang", "step", 13)),
        pytest.param("reinforce", "sync", ("raise", "step", 30), marks=pytest.mark.slow),
        ("reinforce", "async", ("die", "reset", 4)),
        ("evolino", "sync", ("raise", "step", 40)),
    ],
)
def test_a_run_whose_env_breaks_goes_on_to_the_same_weights(
    agent: str, kind: str, fault: tuple[str, str, int], undisturbed: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    met = assert_recovers(fault, agent, kind, undisturbed[agent], tmp_path / "run")
    assert met == (fault[0] != "hang")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "kind", "what", "call"),
    [
        *itertools.product(["ppo"], ["sync", "async"], ["raise"], ["step", "reset"]),
        *itertools.product(["ppo", "reinforce"], ["async"], ["die"], ["step", "reset"]),
        ("ppo", "async", "hang", "step"),
        ("reinforce", "sync", "sys.exit", "step"),
        ("evolino", "sync", "raise", "step"),
        ("evolino", "async", "die", "step"),
    ],
)
def test_wherever_it_breaks(agent: str, kind: str, what: str, call: str, tmp_path: Path) -> None:
    """At every step and reset, until a run is over before its fault; of sync envs these are those of all envs."""
    longer = {"total_steps": 16 * 16 if agent == "ppo" else 200, "eval_every": 64}
    train(agent, "sync", tmp_path / "whole", **longer)
    whole = weights(tmp_path / "whole")
    met = 0
    for number in range(1, 400 if what != "hang" else 40):
        met += assert_recovers((what, call, number), agent, kind, whole, tmp_path / str(number), **longer)
        if met < number - 3 and what != "hang":
            break
    assert met > 5 or what == "hang"
