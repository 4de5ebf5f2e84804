"""Three boundaries, three choices: each has a task that is learnt where it lets through, and not where it alone cuts.

Then the same without learning, exact in float64: what reaches what, step by step, through state, gradient and credit.
A new agent is one line in ``LEARNERS``.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from rlstm.agents import load_agent
from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.evaluation.evaluate import evaluate, evaluation_envs
from rlstm.rollouts.rollout import Rollout
from rlstm.testing.probe_envs import CarriedSignEnv, KeyEnv, ProbeEnv, SecretEnv
from rlstm.training.on_policy import Training
from rlstm.vector.sub_env import TrialEnv
from tests.kit import covering

PROBES = {"probe/CarriedSign-v0": CarriedSignEnv, "probe/Key-v0": KeyEnv, "probe/Secret-v0": SecretEnv}
NUM_ENVS = 32
PLAIN = {"normalize_observations": False, "scale_rewards": False, "encoder_sizes": (16,), "hidden_size": 16}
BLIND = {"previous_action": False, "previous_reward": False, "episode_start": False}
QUICK = [("ppo", "state"), ("ppo", "credit")]  # Learnt in two seconds; the exact tests below do the rest.
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))]


class Learner(NamedTuple):
    """How an agent is trained here."""

    settings: Callable[[int, int], dict[str, Any]]  # From the steps and the episodes of a rollout.
    plain: dict[str, Any]  # What makes an update one gradient step, in which no reward touches another's action.
    updates: int = 1  # For one of PPO's.
    never_resets: bool = True  # Whether it can do with a memory that is never reset.
    boundaries: tuple[str, ...] = ("state", "credit", "gradient")  # Whose tasks it learns in the time of a test.


LEARNERS = {
    "ppo": Learner(
        lambda num_steps, _: {"num_steps": num_steps, "num_minibatches": 2, "learning_rate": 5e-3},
        {"num_minibatches": 1, "update_epochs": 1, "norm_adv": False},
    ),
    "reinforce": Learner(
        lambda _, num_episodes: {"num_episodes": num_episodes, "learning_rate": 1e-2},
        *({}, 4, False, ("state", "credit")),
    ),
}
LEARNT = [
    pytest.param(name, boundary, marks=() if (name, boundary) in QUICK else pytest.mark.slow)
    for name, learner in LEARNERS.items()
    for boundary in learner.boundaries
]
LIFELONG_LEARNERS = [name for name, learner in LEARNERS.items() if learner.never_resets]


class Task(NamedTuple):
    """Trials of two episodes, and the boundary that they need."""

    env: str
    env_kwargs: dict[str, int]
    steps: int  # Of a trial.
    trials: int  # In a rollout, which begins with a trial and ends with one.
    updates: int
    gamma: float
    best: float  # Mean return of an episode.
    memory: dict[str, Any]  # Lets through what is needed.
    cut: dict[str, Any]  # The same but for one boundary, which does not.


LONG = {"num_steps": 20, "num_questions": 8}
TASKS = {
    "state": Task(
        *("probe/CarriedSign-v0", {}, 2, 8, 20, 0.9, 0.5),
        memory={"lifetime": "trial", "credit": "episode"},
        cut={"lifetime": "episode"},
    ),
    "credit": Task(
        *("probe/Key-v0", {}, 2, 8, 30, 0.9, 0.45),
        memory={"lifetime": "trial", "credit": "trial"},
        cut={"credit": "episode"},
    ),
    # γ is 0, so that credit ends with each step: otherwise the value of the first episode would foretell how the second
    # ends, and its gradient, which the horizon lets through, would teach the memory to keep the sign.
    "gradient": Task(
        *("probe/CarriedSign-v0", LONG, 28, 1, 40, 0.0, 0.5),
        memory={"lifetime": "trial", "credit": "trial", "bptt_horizon": None},
        cut={"bptt_horizon": 20},
    ),
}


@pytest.fixture(autouse=True)
def probes() -> Iterator[None]:
    """The probes under ids, and one thread, so that sums are added in the same order everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for env_id, env in PROBES.items():
        gym.register(env_id, entry_point=env, order_enforce=False, disable_env_checker=True)
    yield
    torch.set_num_threads(threads)
    for env_id in PROBES:
        del gym.registry[env_id]


def make_training(agent: str, task: Task, memory: dict[str, Any], seed: int = 0, **settings: Any) -> Training:
    """An agent at the start of a task, with rollouts of whole trials."""
    num_envs = settings.get("num_envs", NUM_ENVS)
    task_settings = {"env": task.env, "env_kwargs": task.env_kwargs, "gamma": task.gamma, "num_envs": num_envs}
    rollout = LEARNERS[agent].settings(task.steps * task.trials, 2 * task.trials * num_envs)
    memory = {"episodes_per_trial": 2, **memory}
    run = {"memory": memory, "inputs": BLIND, "seed": seed, "device": "cpu"}
    config = make_config(agent, **{**rollout, **task_settings, **run, **PLAIN, **settings})
    return Training(config, load_agent(agent)[0], resolve_env(config.env))


def learn(agent: str, task: Task, memory: dict[str, Any], seed: int = 0) -> float:
    """Train, and return what is earned on new trials: 1 at best, 0 for chance or for the best without the future."""
    training = make_training(agent, task, memory, seed)
    for _ in range(task.updates * LEARNERS[agent].updates):
        training.update()
    training.close()
    config, num_episodes = training.config, 16 * NUM_ENVS
    envs = evaluation_envs(training.spec, config.env, config.memory, num_episodes)
    result = evaluate(training.policy, envs, num_episodes, seed=seed)
    envs.close()
    return result.mean_return / task.best


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("agent", "boundary"), LEARNT)
def test_a_task_is_learnt_where_the_boundary_lets_through_what_it_needs(agent: str, boundary: str, seed: int) -> None:
    task = TASKS[boundary]
    assert learn(agent, task, task.memory, seed) > 0.8


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("agent", "boundary"), LEARNT)
def test_it_is_not_learnt_where_that_boundary_alone_cuts(agent: str, boundary: str, seed: int) -> None:
    task = TASKS[boundary]
    assert abs(learn(agent, task, {**task.memory, **task.cut}, seed)) < 0.3


@pytest.mark.parametrize(("agent", "boundary"), [case for case in LEARNT if case.values[1] != "gradient"])
def test_state_and_credit_go_on_where_no_gradient_does(agent: str, boundary: str) -> None:
    """The sign of the step before stands in any state; what an action earns later needs no memory at all."""
    task = TASKS[boundary]
    assert learn(agent, task, {**task.memory, "bptt_horizon": 1}) > 0.8


# A memory that is never reset.

SECRET = Task("probe/Secret-v0", {}, 1, 32, 20, 0.9, 0.75, {"lifetime": "lifelong", "insist_on_trials": True}, {})


@pytest.mark.parametrize(
    "credit", ["lifelong", *(pytest.param(one, marks=pytest.mark.slow) for one in ("episode", "trial"))]
)
@pytest.mark.parametrize("agent", LIFELONG_LEARNERS)
def test_a_lifelong_memory_keeps_a_secret_over_trials_wherever_credit_ends(agent: str, credit: str) -> None:
    assert learn(agent, SECRET, {**SECRET.memory, "credit": credit}) > 0.8


@pytest.mark.parametrize(
    ("lifetime", "expected"), [("trial", 1 / 3), pytest.param("episode", 0.0, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("agent", LIFELONG_LEARNERS)
def test_a_shorter_memory_keeps_it_to_the_end_of_its_trajectory(agent: str, lifetime: str, expected: float) -> None:
    """A sign is asked for in three episodes, of which one is in the trial that shows it."""
    score = learn(agent, SECRET, {**SECRET.memory, "lifetime": lifetime, "credit": "episode"})
    assert score == pytest.approx(expected, abs=0.25)


# What reaches what, exactly: two trials of two episodes of three steps.

EXACT = Task("probe/CarriedSign-v0", {"num_steps": 3, "num_questions": 3}, 6, 2, 1, 0.9, 0.5, {}, {})
STEPS = torch.arange(12)
TRAJECTORIES = {"episode": STEPS // 3, "trial": STEPS // 6, "lifelong": STEPS // 12}
LATER = STEPS.unsqueeze(1) >= STEPS


def same(group: torch.Tensor) -> torch.Tensor:
    """(T, T) bool: whether two steps are of the same group."""
    return group.unsqueeze(1) == group


def exact_rollout(agent: str, memory: dict[str, Any], **settings: Any) -> tuple[Training, Rollout]:
    """An agent in float64 whose every weight matters, and a rollout of one lane."""
    settings = {"num_envs": 1, "dtype": "float64", **LEARNERS[agent].plain, **settings}
    training = make_training(agent, EXACT, memory, **settings)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in training.policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    rollout = training.agent.collect(training.envs, training.collector_state)
    training.close()
    assert rollout.rewards.shape == (12, 1)
    return training, rollout


def with_observations(rollout: Rollout, observations: torch.Tensor) -> Rollout:
    return dataclasses.replace(rollout, inputs=rollout.inputs._replace(observations=observations))


@pytest.mark.parametrize(("horizon", "lifetime", "cell"), covering([None, 3, 4, 6, 12], TRAJECTORIES, ["lstm", "gru"]))
def test_a_gradient_reaches_what_was_seen_in_the_same_trajectory_and_horizon(
    cell: str, lifetime: str, horizon: int | None
) -> None:
    memory = {"lifetime": lifetime, "credit": "episode", "bptt_horizon": horizon}
    training, rollout = exact_rollout("ppo", memory, cell=cell, critic_memory="separate")
    observations = rollout.inputs.observations.clone().requires_grad_()
    evaluation = with_observations(rollout, observations).replay(training.policy)
    expected = LATER & same(TRAJECTORIES[lifetime]) & same(STEPS // (horizon or 12))
    for outputs in (evaluation.values, evaluation.log_probs):
        rows = [torch.autograd.grad(row.sum(), observations, retain_graph=True)[0] for row in outputs]
        assert torch.equal((torch.stack(rows) != 0).flatten(2).any(2), expected)


@pytest.mark.parametrize(("horizon", "lifetime"), covering([None, 3, 4], TRAJECTORIES))
def test_a_state_holds_what_was_seen_in_the_same_trajectory_whatever_the_horizon(
    lifetime: str, horizon: int | None
) -> None:
    training, rollout = exact_rollout(
        "ppo", {"lifetime": lifetime, "credit": "episode", "bptt_horizon": horizon}, critic_memory="separate"
    )
    seen, policy = rollout.inputs.observations, training.policy
    with torch.no_grad():
        before = rollout.replay(policy)
        for step in STEPS:
            changed = seen.clone()
            changed[step] += 0.5
            after = with_observations(rollout, changed).replay(policy)
            reached = LATER[:, step] & same(TRAJECTORIES[lifetime])[:, step]
            assert torch.equal((after.values != before.values).squeeze(1), reached)
            assert torch.equal((after.log_probs != before.log_probs).squeeze(1), reached)


def credit_of_actions(training: Training, rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """The gradient (T,) of an update's first loss to the log-probability of each action; weights stay as they were."""
    gradients: list[torch.Tensor] = []
    agent = copy.deepcopy(training.agent)
    evaluate_batch = agent.policy.evaluate

    def evaluate_and_watch(*sequences: Any) -> Any:
        evaluation = evaluate_batch(*sequences)
        evaluation.log_probs.register_hook(lambda gradient: gradients.append(gradient.squeeze(1)))
        return evaluation

    monkeypatch.setattr(agent.policy, "evaluate", evaluate_and_watch)
    agent.update(rollout)
    return gradients[0]


SHORT_MEMORIES = [("episode", "episode"), ("trial", "episode"), ("trial", "trial")]
LONG_MEMORIES = [("lifelong", "episode"), ("lifelong", "trial"), ("lifelong", "lifelong")]


@pytest.mark.parametrize(
    ("agent", "lifetime", "credit"),
    [(agent, *choice) for agent in LEARNERS for choice in SHORT_MEMORIES]
    + [(agent, *choice) for agent in LIFELONG_LEARNERS for choice in LONG_MEMORIES],
)
def test_an_action_is_credited_with_the_rewards_up_to_the_boundary_and_no_others(
    agent: str, lifetime: str, credit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, rollout = exact_rollout(agent, {"lifetime": lifetime, "credit": credit})
    before = credit_of_actions(training, rollout, monkeypatch)
    reached = []
    for step in STEPS:
        rewards = rollout.rewards.clone()
        rewards[step] += 1.0
        after = credit_of_actions(training, dataclasses.replace(rollout, rewards=rewards), monkeypatch)
        reached.append(after != before)
    assert torch.equal(torch.stack(reached), LATER & same(TRAJECTORIES[credit]))


# The probes themselves.


@pytest.mark.parametrize("probe", PROBES.values())
def test_a_probe_is_a_proper_env(probe: type[ProbeEnv]) -> None:
    check_env(probe(), skip_render_check=True)


def play_trials(env: gym.Env[Any, Any], choose: Callable[[list[Any]], int], num_trials: int) -> tuple[Any, Any]:
    """Trials of two episodes by who sees what the trial has shown: all observations (N, T, D), and returns (N,)."""
    trials, histories, returns = TrialEnv(env, 2, insist=True), [], []
    for trial in range(num_trials):
        seen, total = [], 0.0
        for episode in range(2):
            observation, _ = trials.reset(seed=0 if trial + episode == 0 else None)
            done = False
            while not done:
                seen.append(observation)
                observation, reward, done, *_ = trials.step(choose(seen))
                total += float(reward)
        histories.append(seen)
        returns.append(total)
    return np.array(histories), np.array(returns)


@pytest.mark.parametrize(("num_steps", "num_questions"), [(1, 1), (1, 3), (5, 1), (4, 2)])
def test_a_carried_sign_is_told_by_the_first_observation_and_by_no_other(num_steps: int, num_questions: int) -> None:
    env = CarriedSignEnv(num_steps, num_questions)
    seen, returns = play_trials(env, lambda seen: int(seen[0][0] > 0), 200)
    assert returns == pytest.approx(1.0)
    assert (seen[..., 1:] == [[1, 0]] + [[0, 0]] * (num_steps - 1) + [[0, 1]] * num_questions).all()
    sizes = [1.0] + [0.7] * (num_steps - 1) + [0.0] * num_questions
    assert (abs(seen[..., 0]) == np.float32(sizes)).all()
    signs = np.sign(seen[..., 0])
    assert (abs((signs * signs[:, :1]).sum(0)[1:]) < 5 * 200**0.5).all()
    assert abs(play_trials(env, lambda _: 1, 200)[1].sum()) < 5 * 200**0.5


def test_a_key_costs_now_and_pays_later() -> None:
    assert play_trials(KeyEnv(), lambda _: 1, 3)[1] == pytest.approx(0.9)
    assert (play_trials(KeyEnv(), lambda seen: int(seen[-1][0]), 3)[1] == 0).all()


def test_a_secret_is_asked_for_whatever_the_trials() -> None:
    signs = [0.0]

    def remember(seen: list[Any]) -> int:
        signs.extend([seen[-1][0]] if seen[-1][1] == 0 else [])
        return int(signs[-1] > 0)

    assert play_trials(SecretEnv(4), remember, 400)[1].tolist() == [1, 2] * 200
    assert len(signs) == 201
    within_a_trial = play_trials(SecretEnv(4), lambda seen: int(seen[0][0] > 0), 400)[1]
    assert (within_a_trial[::2] == 1).all()
    assert abs(within_a_trial[1::2].sum()) < 2 * 5 * 200**0.5


def test_a_probe_without_a_question_is_refused() -> None:
    for sizes in ((0, 1), (3, 0)):
        with pytest.raises(ValueError, match=f"num_steps is {sizes[0]}, num_questions is {sizes[1]}"):
            CarriedSignEnv(*sizes)
    with pytest.raises(ValueError, match="num_episodes is 1"):
        SecretEnv(1)
