"""Measure the variance of the policy gradient with each baseline of REINFORCE.

    python -m scripts.experiments.gradient_variance                   # what there is
    python -m scripts.experiments.gradient_variance tmaze --seeds 0   # rows are written as soon as their run is done
    python -m scripts.experiments.gradient_variance --tables          # the table from the rows, nothing is trained

An agent is trained with the history-dependent baseline. At some stages of the training the policy is frozen and plays
episodes on seeds that training never uses. They are split into batches, and the gradient of the expected return with
respect to the actor's encoder, memory and head is estimated from every batch with each baseline in turn: none, the
running mean, the critic as it then is. Nothing else enters: no entropy, no critic's loss, no clipping, no Adam.

g = 1/E Σ_episodes Σ_t ∇log π(a_t | h_t) (G_t - b_t) for a batch of E episodes, so that its expectation is the same for
every baseline. The variance is the trace of its covariance over batches, times E: that of a single episode.

There are two runs a seed: ``separate``, where the critic has a memory of its own (Wierstra et al. 2010), and
``shared``, where it is a second head on the actor's memory, which its loss then shapes as well. They are different
policies, hence every variance is compared with that of the running mean on the same batches of the same policy. Rows
are in ``scripts/results/gradient_variance.csv``; a run that is there is not repeated.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from rlstm.agents import load_agent
from rlstm.agents.reinforce import REINFORCE
from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.core.process import prepare_process
from rlstm.core.seeding import generator, integer_seeds
from rlstm.core.trees import tree_map
from rlstm.losses.returns import explained_variance, rewards_to_go
from rlstm.rollouts.collect import collect_trajectories, start
from rlstm.rollouts.rollout import Rollout
from rlstm.training.on_policy import Training
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.make import make
from scripts.experiments.training_run import MACHINE_COLUMNS, machine, make_parser, refuse_unknown
from scripts.results_table import (
    PAGE,
    ROOT,
    markdown_table,
    marked,
    read_rows,
    write_between,
    write_rows,
)

FloatArray = npt.NDArray[np.float64]
Baseline = Literal["none", "mean", "history"]

RESULTS = ROOT / "scripts" / "results" / "gradient_variance.csv"
BEGIN, END = (
    "<!-- gradient variance: written by scripts/experiments/gradient_variance.py -->",
    "<!-- end of gradient variance -->",
)
NUM_BATCHES, BATCH_EPISODES = 256, 16
MEMORIES = ("separate", "shared")
BASELINES: tuple[Baseline, ...] = ("none", "mean", "history")
HEAD = (
    *("task", "stage", "return", "none", "mean", "history, own memory", "history, shared memory"),
    *("norm of the gradient", "signal to noise, mean", "signal to noise, own memory"),
)
LARGEST_BIAS = 16.0  # Times what chance gives; with a single free direction that is 4 standard errors.


@dataclass(frozen=True)
class Task:
    """An env with settings with which it is learnt, and the stages by the mean return of the last episodes played."""

    title: str
    settings: Mapping[str, Any]
    stages: Mapping[str, float]


_COMMON = {"num_envs": 64, "num_episodes": 64, "hidden_size": 32, "encoder_sizes": (32,), "gamma": 0.98}
_COMMON |= {"anneal_lr": False}
TASKS = {
    "tmaze": Task(
        "T-maze, corridor 10",
        {
            "env": "rlstm/TMaze-v0",
            "env_kwargs": {"corridor_length": 10},
            "total_steps": 600_000,
            "ent_coef": 0.03,
            "final_ent_coef": 0.003,
            "memory_length": 20,
            "learning_rate": 3e-3,
            **_COMMON,
        },
        {"untrained": -math.inf, "early": 1.0, "half learnt": 3.0, "nearly learnt": 3.8},
    ),
    "single-pole": Task(
        "single pole without velocities, 200 steps",
        {
            "env": "rlstm/SinglePoleNoVel-v0",
            "env_kwargs": {"max_steps": 200},
            "total_steps": 1_000_000,
            "ent_coef": 0.0,
            "final_ent_coef": None,
            "learning_rate": 3e-3,
            **_COMMON,
        },
        {"untrained": -math.inf, "early": 50.0, "half learnt": 100.0, "nearly learnt": 180.0},
    ),
}
COLUMNS = (
    *("task", "critic_memory", "seed", "stage", "steps", "mean_return", "baseline", "variance", "ratio_to_mean"),
    *("standard_error", "gradient_norm", "signal_to_noise", "bias", "explained_variance", "episodes", "command"),
    *MACHINE_COLUMNS,
)


def covariance_trace(samples: FloatArray) -> float:
    """Return the trace of the unbiased covariance of ``samples`` ``(N, P)``."""
    return float(samples.var(axis=0, ddof=1).sum())


def ratio_with_error(samples: FloatArray, reference: FloatArray) -> tuple[float, float]:
    """Return the ratio of two covariance traces and its standard error, the jackknife's over the paired rows.

    With c_i the centred row i, the trace without row i is (Σ_j |c_j|² - N/(N - 1) |c_i|²)/(N - 2).

    Args:
        samples: ``(N, P)``, N >= 3.
        reference: ``(N, P)``, of the same batches in the same order.
    """
    count = len(samples)
    squares = [np.square(part - part.mean(axis=0)).sum(axis=1) for part in (samples, reference)]
    above, below = (one.sum() - count / (count - 1) * one for one in squares)
    error = math.sqrt((count - 1) * (above / below).var())
    return float(squares[0].sum() / squares[1].sum()), error


def mean_norm(samples: FloatArray) -> float:
    """Return the norm of the expectation of ``samples`` ``(N, P)``: what noise adds to its square is taken off."""
    square = np.square(samples.mean(axis=0)).sum() - covariance_trace(samples) / len(samples)
    return math.sqrt(max(0.0, square))


def bias(samples: FloatArray, reference: FloatArray) -> float:
    """Return |mean difference|² over what chance gives it: about 1 if both ``(N, P)`` have the same expectation.

    It is 0 if nothing differs from batch to batch, as for the reference itself.
    """
    difference = samples - reference
    chance = covariance_trace(difference) / len(difference)
    return float(np.square(difference.mean(axis=0)).sum() / chance) if chance else 0.0


def batch_of(rollout: Rollout, rows: torch.Tensor) -> Rollout:
    """Return some envs of a rollout up to the end of their longest episode."""
    part = rollout.select(rows)
    length = int(part.valid.any(dim=1).sum())
    names = [field.name for field in dataclasses.fields(part) if field.name != "initial_state"]
    return dataclasses.replace(
        part, **{name: tree_map(lambda leaf: leaf[:length], getattr(part, name)) for name in names}
    )


def gradients(agent: REINFORCE, batch: Rollout) -> dict[Baseline, FloatArray]:
    """Return the estimate of the gradient ``(P,)`` from one batch by each baseline."""
    policy = agent.policy
    parameters = [*policy.actor.parameters(), *policy.policy_head.parameters(), *policy.distribution.parameters()]
    returns = rewards_to_go(batch.rewards, batch.credit_cuts, gamma=agent.config.gamma)
    log_probs = batch.replay(policy).log_probs
    found = {}
    for name, baseline in baselines(agent, batch).items():
        weights = torch.where(batch.valid, returns - baseline, 0.0) / batch.num_envs
        parts = torch.autograd.grad((log_probs * weights).sum(), parameters, retain_graph=True)
        found[name] = torch.cat([part.flatten() for part in parts]).double().numpy()
    return found


def baselines(agent: REINFORCE, rollout: Rollout) -> dict[Baseline, torch.Tensor]:
    """Return what the agent as it stands would subtract with each baseline, ``(T, B)``."""
    found = {}
    for name in BASELINES:
        other = copy.copy(agent)
        other.config = dataclasses.replace(agent.config, baseline=name)
        found[name] = other.baselines(rollout)
    return found


def play(agent: REINFORCE, envs: VectorEnvs, seed: int) -> Rollout:
    """Let the frozen policy play one episode in every env, with random numbers of its own."""
    policy = agent.policy
    kept, policy.generator = policy.generator, generator(seed, "evaluation_actions")
    seeds = integer_seeds(seed, "evaluation", envs.num_envs)
    rollout = collect_trajectories(policy, envs, start(policy, envs, seeds), envs.num_envs, seeds)
    policy.generator = kept
    return rollout


def measure(agent: REINFORCE, envs: VectorEnvs, seed: int) -> list[dict[str, Any]]:
    """Return for each baseline what was measured with the agent as it stands.

    Raises:
        SystemExit: If the mean gradients differ by more than chance: a baseline must not bias them.
    """
    rollout = play(agent, envs, seed)
    parts = torch.arange(envs.num_envs).split(BATCH_EPISODES)
    found = [gradients(agent, batch_of(rollout, part)) for part in parts]
    samples = {name: np.stack([one[name] for one in found]) for name in BASELINES}
    returns = rewards_to_go(rollout.rewards, rollout.credit_cuts, gamma=agent.config.gamma)
    common = {"mean_return": f"{float(rollout.rewards.sum(dim=0).mean()):.4g}", "episodes": envs.num_envs}
    rows = []
    for name, subtracted in baselines(agent, rollout).items():
        explained = explained_variance(subtracted[rollout.valid], returns[rollout.valid])
        row = statistics(samples[name], samples["mean"], agent.config.num_episodes)
        if row["bias"] > LARGEST_BIAS:
            raise SystemExit(
                f"The gradient with baseline '{name}' is biased: {row['bias']:.3g} times what chance gives."
            )
        rounded = {key: f"{value:.5g}" for key, value in {**row, "explained_variance": explained}.items()}
        rows.append({**common, "baseline": name, **rounded})
    return rows


def statistics(samples: FloatArray, reference: FloatArray, num_episodes: int) -> dict[str, float]:
    """Return what the gradients ``(N, P)`` of N batches say, beside the running mean's of the same batches.

    Args:
        samples: By the baseline in question.
        reference: By the running mean.
        num_episodes: Episodes of a batch in training, for its signal-to-noise ratio.
    """
    ratio, error = ratio_with_error(samples, reference)
    variance, norm = covariance_trace(samples) * BATCH_EPISODES, mean_norm(samples)
    return {
        "variance": variance,
        "ratio_to_mean": ratio,
        "standard_error": error,
        "gradient_norm": norm,
        "signal_to_noise": norm / math.sqrt(variance / num_episodes),
        "bias": bias(samples, reference),
    }


def run_seed(name: str, memory: str, seed: int, num_threads: int) -> list[dict[str, Any]]:
    """Train one run, measure at every stage that it comes to, and return the rows."""
    settings = {**TASKS[name].settings, "critic_memory": memory, "seed": seed, "num_threads": num_threads}
    config = make_config("reinforce", **settings)
    spec = resolve_env(config.env)
    training = Training(config, load_agent("reinforce")[0], spec)
    envs = make(spec, config.env, config.memory, num_envs=NUM_BATCHES * BATCH_EPISODES)
    command = f"python -m scripts.experiments.gradient_variance {name} --seeds {seed}"
    common = {"task": name, "critic_memory": memory, "seed": seed, "command": command, **machine(num_threads)}
    stages, rows = list(TASKS[name].stages.items()), []
    while stages and training.step < config.run.total_steps:
        metrics, _ = training.update()
        if metrics["rollout/ep_rew_mean"] >= stages[0][1]:
            stage, _ = stages.pop(0)
            found = measure(cast(REINFORCE, training.agent), envs, seed)
            rows += [{**common, "stage": stage, "steps": training.step, **row} for row in found]
            print(f"{name} {memory} seed {seed}, {stage}: {found[2]['ratio_to_mean']} of the mean's", flush=True)
    for stage, _ in stages:
        print(f"{name} {memory} seed {seed}: never came to '{stage}' in {training.step:,} steps")
    training.close()
    envs.close()
    return rows


def select(rows: list[dict[str, str]], memory: str, baseline: str) -> list[dict[str, str]]:
    """Return the rows of one kind of critic and one baseline."""
    return [row for row in rows if (row["critic_memory"], row["baseline"]) == (memory, baseline)]


def over_seeds(rows: list[dict[str, str]], column: str) -> str:
    """Return the geometric mean over seeds and, of several, the smallest and the largest value."""
    values = np.array([float(row[column]) for row in rows])
    if not len(values):
        return "-"
    # A norm is 0 if noise leaves nothing of it, and then so is the mean.
    middle = float(np.exp(np.log(values).mean())) if values.all() else 0.0
    return f"{middle:.2f}" + (f" [{values.min():.2f}, {values.max():.2f}]" if len(values) > 1 else "")


def table(rows: list[dict[str, str]]) -> str:
    """Return the Markdown table of all rows, or nothing if there are none."""
    lines = []
    for name, stage in [(name, stage) for name, task in TASKS.items() for stage in task.stages]:
        here = [row for row in rows if row["task"] == name and row["stage"] == stage]
        own = {one: select(here, "separate", one) for one in BASELINES}
        if not own["mean"]:
            continue
        entries = [
            TASKS[name].title,
            marked(stage, here),
            f"{np.mean([float(row['mean_return']) for row in own['mean']]):.1f}",
            over_seeds(own["none"], "ratio_to_mean"),
            "1",
            over_seeds(own["history"], "ratio_to_mean"),
            over_seeds(select(here, "shared", "history"), "ratio_to_mean"),
            over_seeds(own["history"], "gradient_norm"),
            over_seeds(own["mean"], "signal_to_noise"),
            over_seeds(own["history"], "signal_to_noise"),
        ]
        lines.append(entries)
    return markdown_table(HEAD, lines)


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, range(3))
    parser.add_argument("names", nargs="*", metavar="NAME", help="tasks; none lists them")
    arguments = parser.parse_args()
    refuse_unknown(parser, arguments.names, TASKS)
    if not arguments.names and not arguments.tables:
        for name, task in TASKS.items():
            print(f"{name:12s} {task.title}: {', '.join(task.stages)}")
        return
    prepare_process(arguments.num_threads)
    rows = read_rows(RESULTS)
    there = {(row["task"], row["critic_memory"], int(row["seed"])) for row in rows}
    for run in itertools.product(arguments.names, MEMORIES, arguments.seeds):
        if run in there:
            print("already there:", *run)
            continue
        rows += [{key: str(value) for key, value in row.items()} for row in run_seed(*run, arguments.num_threads)]
        write_rows(RESULTS, COLUMNS, rows)
    if not write_between(PAGE, BEGIN, END, table(rows)):
        print(table(rows))


if __name__ == "__main__":
    main()
