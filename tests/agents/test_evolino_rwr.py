"""Readout rwr: elites teach what was executed in them, the better ones more; exploring changes nothing else."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlstm.agents.evolino import Evolino
from rlstm.api import experiments as api
from rlstm.core.trees import tree_leaves
from rlstm.evaluation.demonstrations import Demonstrations
from rlstm.evaluation.teacher_sequences import teacher_sequences_from_demonstrations
from rlstm.evolution.elite_archive import EliteArchive
from rlstm.evolution.fitness import FitnessEvaluator
from rlstm.testing.probe_envs import CarriedSignEnv
from rlstm.training.config import ConfigError
from rlstm.training.generations import Evolution


class LockEnv(gym.Env[Any, Any]):
    """A sign is shown at step 0; it opens a lock if the next four actions all are 1 for +1 and 0 for -1: reward 1.

    A random policy opens one lock in sixteen, one without memory can't do better than one in two.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.sign, self.time, self.right = int(self.np_random.integers(2)) * 2 - 1, 0, 0
        return np.array([self.sign], dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.right += self.time > 0 and (action == 1) == (self.sign > 0)
        self.time += 1
        opened = self.right == 4
        return np.zeros(1, dtype=np.float32), float(opened), self.time == 5, False, {"is_success": opened}


class EchoEnv(gym.Env[Any, Any]):
    """Three steps that pay what was executed."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self, continuous: bool = False) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32) if continuous else spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        return np.zeros(1, dtype=np.float32), float(np.asarray(action).reshape(())), self.time == 3, False, {}


ENVS = {"rwr-test/Lock-v0": LockEnv, "rwr-test/Echo-v0": EchoEnv, "rwr-test/CarriedSign-v0": CarriedSignEnv}
LOCK: dict[str, Any] = {
    "env": "rwr-test/Lock-v0",
    "readout": "rwr",
    "num_envs": 4,
    "hidden_size": 6,
    "population": 32,
    "sigma": 1.0,
    "elite_episodes": 1000,  # All that is ever tried: few of them open the lock.
    "eval_every": 0,
}
GENERATIONS = 6


@pytest.fixture(autouse=True)
def registered():
    for name, env in ENVS.items():
        gym.register(name, entry_point=env, order_enforce=False, disable_env_checker=True)
    yield
    for name in ENVS:
        del gym.registry[name]


def make(settings: dict[str, Any], **more: Any) -> Evolution:
    training, _ = api._make_training(api.make_config("evolino", **{**settings, **more}))
    assert isinstance(training, Evolution)
    return training


def parts(training: Evolution) -> tuple[Evolino, EliteArchive]:
    assert isinstance(training.agent, Evolino)
    assert training.agent.archive is not None
    return training.agent, training.agent.archive


def elites(training: Evolution) -> Demonstrations:
    trajectories = parts(training)[1].trajectories
    assert trajectories is not None
    return trajectories


def mean_fitness(seed: int) -> float:
    """What the first generations are worth."""
    training = make(LOCK, seed=seed)
    means = [training.update()[0]["evolino/mean"] for _ in range(GENERATIONS)]
    training.close()
    return float(np.mean(means))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_rare_successes_are_learnt_from(seed: int) -> None:
    assert mean_fitness(seed) > 0.75


class Worst(EliteArchive):
    """An archive that takes the worst trajectories for the best."""

    @property
    def weights(self) -> Any:
        return 1.0 + 1e-3 - super().weights


class Uniform(EliteArchive):
    """An archive in which all trajectories weigh the same."""

    @property
    def weights(self) -> Any:
        return np.ones_like(super().weights)


@pytest.mark.parametrize("archive", [Worst, Uniform])
def test_nothing_is_learnt_if_the_weights_say_the_wrong_thing(archive: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("rlstm.agents.evolino.EliteArchive", archive)
    assert mean_fitness(0) < 0.6


@pytest.mark.parametrize("continuous", [False, True])
def test_elites_hold_what_was_executed_with_its_noise_and_bounds(continuous: bool) -> None:
    training = make(LOCK, env="rwr-test/Echo-v0", env_kwargs={"continuous": continuous})
    for _ in range(2):
        training.update()
        kept = elites(training)
        played = kept.actions.reshape(kept.rewards.shape)
        np.testing.assert_allclose(played, kept.rewards)
        assert (kept.rewards > 0.5).any()
        assert (kept.rewards < 0.5).any()
    if continuous:
        assert (np.abs(played) == 1.0).any()  # Clipped: what was drawn lies outside.
        assert len(np.unique(played)) > 20
    training.close()


def test_the_first_elites_are_of_an_untrained_policy_whose_actions_are_noise() -> None:
    training = make(LOCK, env="rwr-test/Echo-v0")
    parameters = parts(training)[0].parameters
    genomes = torch.randn(2, parameters.evolved.num_genes, dtype=torch.float64)
    split = parameters.whole.split(parameters.untrained(genomes))
    assert not split["policy_head.0.weight"].any()
    assert not split["policy_head.0.bias"].any()
    assert torch.equal(split["actor.cell.weight_hh"], parameters.evolved.split(genomes)["actor.cell.weight_hh"])
    offered = spy(training)
    training.update()
    first = offered[0].actions[offered[0].valid]
    assert len(first) == 32 * 4 * 3
    assert 0.35 < first.mean() < 0.65
    training.close()


def spy(training: Evolution) -> list[Demonstrations]:
    """Return the list to which all trajectories are added that are offered from now on."""
    offered: list[Demonstrations] = []
    archive = parts(training)[1]
    offer = archive.offer

    def listen(trajectories: Demonstrations) -> None:
        offered.append(trajectories)
        offer(trajectories)

    archive.offer = listen  # type: ignore[method-assign]
    return offered


def test_the_best_quarter_explores_on_seeds_of_its_own_and_its_steps_count(monkeypatch: Any) -> None:
    training = make({**LOCK, "env": "rlstm/TMaze-v0", "env_kwargs": {"corridor_length": 3, "noise": True}})
    seeds: list[tuple[int, ...]] = []
    noises: set[int] = set()
    steps = 0
    record, play = FitnessEvaluator.record, FitnessEvaluator.play

    def exploring(self: FitnessEvaluator, whole: Any, own: Any, episodes: int, noise: torch.Generator) -> Any:
        nonlocal steps
        seeds.append(tuple(own))
        noises.add(noise.initial_seed())
        assert len(whole) == (32 if len(seeds) == 1 else 8)
        trajectories = record(self, whole, own, episodes, noise)
        steps += trajectories.num_steps
        return trajectories

    def playing(self: FitnessEvaluator, whole: Any, readouts: Any, own: Any, episodes: int) -> Any:
        nonlocal steps
        seeds.append(tuple(own))
        outcome = play(self, whole, readouts, own, episodes)
        steps += int(outcome.lengths.sum())
        return outcome

    monkeypatch.setattr(FitnessEvaluator, "record", exploring)
    monkeypatch.setattr(FitnessEvaluator, "play", playing)
    generator = training.policy.generator.get_state()
    for _ in range(3):
        training.update()
    assert training.step == steps
    every = [seed for own in set(seeds) for seed in own]
    assert len(every) == len(set(every))
    assert sorted({len(own) for own in seeds}) == [4, 16, 32, 128]
    assert len(noises) == 4
    assert torch.equal(training.policy.generator.get_state(), generator)
    training.close()


def test_the_explorers_are_the_best_quarter_without_those_that_failed() -> None:
    training = make(LOCK, population=16)
    agent, _ = parts(training)
    whole = agent.parameters.untrained(agent.strategy.ask())
    outcome = agent.evaluator.play(whole, None, [1], 1)
    outcome = outcome._replace(returns=np.arange(16.0)[:, None], failed=np.arange(16) == 14)
    assert torch.equal(agent.explorers(outcome), whole[[15, 13, 12, 11]])
    outcome = outcome._replace(failed=np.arange(16) > 1)
    assert torch.equal(agent.explorers(outcome), whole[[1, 0]])
    assert len(agent.explorers(outcome._replace(failed=np.ones(16, dtype=bool)))) == 0
    training.close()


def test_every_genome_is_solved_from_its_own_features_of_all_elites() -> None:
    training = make(LOCK, elite_episodes=30)
    training.update()
    agent, archive = parts(training)
    sequences = archive.teacher_sequences(training.policy, washout=1)
    plain = teacher_sequences_from_demonstrations(training.policy, elites(training), washout=1)
    assert torch.equal(sequences.weights, plain.weights * torch.from_numpy(archive.weights))
    genomes = torch.randn(3, agent.parameters.evolved.num_genes, dtype=torch.float64)
    whole = agent.evaluator.evaluate_shard(genomes, sequences, [1], 1).genomes
    features, targets, weights = agent.evaluator.features(genomes, sequences)
    assert targets.shape == (4 * 30, 2)
    head = agent.parameters.whole.split(whole)
    for index, phi in enumerate(features):
        mean = (weights @ phi) / weights.sum()
        centred = (phi - mean) * weights.sqrt().unsqueeze(1)
        target_mean = (weights @ targets) / weights.sum()
        moments = centred.T @ centred
        penalty = 1e-3 * moments.trace() / 6 * torch.eye(6, dtype=torch.float64)
        right = centred.T @ ((targets - target_mean) * weights.sqrt().unsqueeze(1))
        solution = torch.linalg.solve(moments + penalty, right)
        torch.testing.assert_close(head["policy_head.0.weight"][index], solution.T, rtol=1e-6, atol=1e-8)
    training.close()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_under_trials_elites_are_whole_trials(seed: int) -> None:
    memory = {"lifetime": "trial", "episodes_per_trial": 2}
    kwargs = {"num_steps": 1, "num_questions": 3}
    training = make(LOCK, env="rwr-test/CarriedSign-v0", env_kwargs=kwargs, memory=memory, seed=seed, elite_episodes=60)
    means = [training.update()[0]["evolino/mean"] for _ in range(GENERATIONS)]
    kept = elites(training)
    assert len(kept.lengths) == 60
    assert (kept.lengths == 4).all()
    assert kept.episode_starts[:, 0].tolist() == [True, True, False, False]
    assert kept.returns == pytest.approx(1.0)
    # Of an episode; the first of a trial pays nothing, and a memory that is reset before the second earns 0.
    assert means[-1] > 0.4
    assert training.recent_metrics()["rollout/ep_rew_mean"] == pytest.approx(0.5)
    training.close()


@pytest.mark.slow
def test_workers_change_nothing() -> None:
    maze = {"env": "rlstm/TMaze-v0", "env_kwargs": {"corridor_length": 3}, "vectorization": "sync"}
    found = []
    for workers in (1, 3):
        training = make({**LOCK, **maze, "workers": workers, "elite_episodes": 10})
        for _ in range(3):
            training.update()
        leaves = tree_leaves([training.agent.state_dict(), dict(sorted(training.policy.state_dict().items()))])
        found.append(repr([leaf.tolist() if hasattr(leaf, "tolist") else leaf for leaf in leaves]))
        training.close()
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"demonstrations": "x"}, "readout is 'rwr', which no demonstrations can teach"),
        ({"head_sizes": (4,)}, "readout 'rwr' solves a linear one"),
        ({"elite_episodes": 0}, "elite_episodes is 0"),
        (
            {"env": "rlstm/Sines-v0", "env_kwargs": {"feedback": True}},
            r"has a teacher: info\['target'\].*'lstsq' is used",
        ),
        ({"env": "rlstm/Sines-v0"}, "'ridge' is used"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(LOCK, **settings)


def test_auto_never_chooses_it() -> None:
    training = make({**LOCK, "elite_episodes": 20}, readout="auto")
    assert isinstance(training.agent, Evolino)
    assert training.agent.archive is None
    assert training.agent.solve is None
    training.close()
