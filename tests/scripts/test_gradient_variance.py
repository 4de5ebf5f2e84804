"""The script of the gradients' variance: its statistics by numpy and by hand, its gradients by the agent's own."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from rlstm.agents.reinforce import REINFORCE
from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.losses.returns import rewards_to_go
from rlstm.rollouts.rollout import Rollout
from rlstm.training.config import ExperimentConfig
from rlstm.training.on_policy import Training
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.make import make


@pytest.fixture
def script(scripts: Any) -> Any:
    return scripts.gradient_variance


def experiment() -> ExperimentConfig[Any]:
    small = {"num_envs": 4, "num_episodes": 8, "hidden_size": 4, "encoder_sizes": (3,), "num_threads": 1}
    maze = {"env": "rlstm/TMaze-v0", "env_kwargs": {"corridor_length": 2, "max_steps": 20}}
    return make_config("reinforce", **maze, **small, dtype="float64")


def lanes(count: int) -> VectorEnvs:
    config = experiment()
    return make(resolve_env(config.env), config.env, config.memory, num_envs=count)


@pytest.fixture
def played(script: Any) -> tuple[REINFORCE, VectorEnvs, Rollout]:
    """An agent after a few updates, and an episode of it in each of 6 lanes."""
    training = Training(experiment(), REINFORCE, resolve_env(experiment().env))
    for _ in range(3):
        training.update()
    envs = lanes(6)
    return training.agent, envs, script.play(training.agent, envs, 0)


def noise(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)) * np.arange(1, columns + 1)


def test_the_variance_is_the_trace_of_numpys_covariance(script: Any) -> None:
    samples = noise(20, 5) + 7.0
    assert script.covariance_trace(samples) == pytest.approx(np.trace(np.cov(samples.T)), rel=1e-12)


def test_the_standard_error_is_the_jackknifes_with_every_row_left_out_in_turn(script: Any) -> None:
    samples, reference = noise(12, 4), noise(12, 4, seed=1) + 3.0
    ratio, error = script.ratio_with_error(samples, reference)
    without = [
        np.trace(np.cov(np.delete(samples, row, 0).T)) / np.trace(np.cov(np.delete(reference, row, 0).T))
        for row in range(12)
    ]
    assert ratio == pytest.approx(np.trace(np.cov(samples.T)) / np.trace(np.cov(reference.T)), rel=1e-12)
    assert error == pytest.approx(math.sqrt(11 / 12 * np.square(without - np.mean(without)).sum()), rel=1e-12)


def test_the_standard_error_is_how_far_ratios_scatter(script: Any) -> None:
    pairs = [script.ratio_with_error(noise(100, 6, seed), noise(100, 6, 1000 + seed)) for seed in range(300)]
    ratios, errors = zip(*pairs, strict=True)
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.15)


def test_the_same_samples_have_ratio_1_without_error(script: Any) -> None:
    assert script.ratio_with_error(noise(9, 3), noise(9, 3)) == (1.0, 0.0)


def test_noise_is_taken_off_the_norm_of_the_mean(script: Any) -> None:
    expectation = np.array([3.0, 0.0, 4.0])
    squares = [script.mean_norm(expectation + noise(10, 3, seed)) ** 2 for seed in range(400)]
    assert np.mean(squares) == pytest.approx(25.0, rel=0.02)
    samples = noise(10, 3)
    assert script.mean_norm(samples - samples.mean(axis=0)) == 0.0


def test_a_difference_of_expectations_is_told_from_chance(script: Any) -> None:
    reference, shift = noise(200, 3), np.array([2.0, 0.0, 0.0])
    fair = [script.bias(reference + noise(200, 3, seed), reference) for seed in range(1, 200)]
    assert np.mean(fair) == pytest.approx(1.0, rel=0.2)
    assert max(fair) < script.LARGEST_BIAS < script.bias(reference + noise(200, 3, 1) + shift, reference)
    assert script.bias(reference, reference) == 0.0


def test_no_batch_is_longer_than_its_longest_episode_and_none_loses_a_step(script: Any, played: Any) -> None:
    _, envs, rollout = played
    parts = [script.batch_of(rollout, lanes) for lanes in torch.arange(envs.num_envs).split(1)]
    assert len({part.num_steps for part in parts}) > 1
    assert all(part.all_valid for part in parts)
    assert sum(int(part.valid.sum()) for part in parts) == int(rollout.valid.sum())
    assert sum(float(part.rewards.sum()) for part in parts) == pytest.approx(float(rollout.rewards.sum()))


def test_the_gradient_is_a_sum_over_steps_and_a_mean_over_episodes(script: Any, played: Any) -> None:
    agent, _, rollout = played
    policy = agent.policy
    actors = [value for name, value in policy.named_parameters() if name.startswith(("actor.", "policy_head."))]
    returns = rewards_to_go(rollout.rewards, rollout.credit_cuts, gamma=agent.config.gamma)
    found = script.gradients(agent, rollout)
    for name, baseline in {"none": torch.zeros_like(returns), "history": agent.baselines(rollout)}.items():
        log_probs = rollout.replay(policy).log_probs
        steps = [(t, b) for t in range(rollout.num_steps) for b in range(6) if rollout.valid[t, b]]
        total = sum(log_probs[step] * (returns[step] - baseline[step]) for step in steps) / 6
        expected = torch.cat([part.flatten() for part in torch.autograd.grad(total, actors)])
        assert found[name] == pytest.approx(expected.numpy(), rel=1e-9, abs=1e-12)


def test_the_baselines_are_what_the_agent_would_subtract(script: Any, played: Any) -> None:
    agent, _, rollout = played
    config = agent.config
    found = script.baselines(agent, rollout)
    assert agent.config is config
    assert not found["none"].any()
    assert torch.equal(found["history"], agent.baselines(rollout))
    longest = int(rollout.valid.sum(dim=0).argmax())
    by_time = found["mean"][:, longest]
    assert torch.equal(found["mean"][rollout.valid], by_time[:, None].expand_as(rollout.rewards)[rollout.valid])
    assert by_time.unique().numel() > 1


def test_play_leaves_the_agents_random_numbers_alone_and_repeats(script: Any, played: Any) -> None:
    agent, envs, rollout = played
    own = agent.policy.generator
    before = own.get_state()
    again = script.play(agent, envs, 0)
    assert agent.policy.generator is own
    assert torch.equal(own.get_state(), before)
    assert torch.equal(again.log_probs, rollout.log_probs)
    assert (again.is_first & again.valid).sum() == envs.num_envs


def test_a_biased_baseline_is_refused(script: Any, played: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, envs = played[0], lanes(256)
    monkeypatch.setattr(script, "BATCH_EPISODES", 4)
    rows = script.measure(agent, envs, 0)
    assert [row["baseline"] for row in rows] == ["none", "mean", "history"]
    assert float(rows[1]["ratio_to_mean"]) == 1.0
    honest = script.baselines

    def peeking(agent: REINFORCE, rollout: Rollout) -> dict[str, torch.Tensor]:
        returns = rewards_to_go(rollout.rewards, rollout.credit_cuts, gamma=agent.config.gamma)
        return {**honest(agent, rollout), "history": 2 * returns}

    monkeypatch.setattr(script, "baselines", peeking)
    with pytest.raises(SystemExit, match="'history' is biased"):
        script.measure(agent, envs, 0)


def test_the_table_compares_each_memory_with_its_own_mean_over_seeds(script: Any) -> None:
    def row(memory: str, seed: int, baseline: str, ratio: float) -> dict[str, str]:
        words = {"task": "tmaze", "critic_memory": memory, "seed": seed, "stage": "early", "baseline": baseline}
        numbers = {"ratio_to_mean": ratio, "mean_return": 1.5, "gradient_norm": 2.0, "signal_to_noise": 3.0}
        return {key: str(value) for key, value in {**words, **numbers}.items()}

    rows = [
        row(memory, seed, baseline, factor * ratio)
        for memory, factor in (("separate", 1.0), ("shared", 10.0))
        for seed, ratio in enumerate((0.5, 2.0))
        for baseline in ("none", "mean", "history")
    ]
    line = script.table(rows).splitlines()[-1]
    assert line.split(" | ")[1:7] == [
        "early",
        "1.5",
        "1.00 [0.50, 2.00]",
        "1",
        "1.00 [0.50, 2.00]",
        "10.00 [5.00, 20.00]",
    ]
    assert len(script.table(rows).splitlines()) == 3
