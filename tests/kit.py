"""What many tests need: envs that follow a script, policies whose values are known, and small real policies.

Tests take it by ``from tests.kit import make_policy``; pytest's ``pythonpath`` makes that name known.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rlstm.agents import load_agent_config
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.trees import tree_map
from rlstm.policies.config import PolicyConfig
from rlstm.policies.distributions import make_distribution
from rlstm.policies.inputs import PolicyInputs, SampledStep
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.rollout import Rollout
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.sub_env import SubEnv, TrialEnv


def covering(*axes: Iterable[Any]) -> list[Any]:
    """Return the product of the axes as cases of ``pytest.mark.parametrize``, all but a sample of them slow.

    The sample is as large as the longest axis, and holds every value of every axis.
    """
    values = [list(axis) for axis in axes]
    size = max(map(len, values))
    places = [[(k + j * (k // len(axis))) % len(axis) for j, axis in enumerate(values)] for k in range(size)]
    sample = {tuple(place) for place in places}
    return [
        pytest.param(
            *(axis[index] for axis, index in zip(values, place, strict=True)),
            marks=() if place in sample else pytest.mark.slow,
        )
        for place in itertools.product(*(range(len(axis)) for axis in values))
    ]


def write_run(path, seed=0, evaluations=None, returns=None, *, agent="ppo", env="rlstm/TMaze-v0", **settings):
    """Write the folder of a run by hand: its settings, and by step the returns of evaluations and of training."""
    path = Path(path)
    path.mkdir(parents=True)
    columns = {"eval/mean_reward": evaluations or {}, "rollout/ep_rew_mean": returns or {}}
    lines = ["step," + ",".join(columns)]
    steps = sorted({step for values in columns.values() for step in values})
    lines += [",".join([str(step), *(str(values.get(step, "")) for values in columns.values())]) for step in steps]
    (path / "progress.csv").write_text("\n".join(lines) + "\n")
    (path / "env_spec.json").write_text(json.dumps({"id": env, "registered_in_process": True}))
    settings = {"env": env, "seed": seed, "run_dir": str(path), **settings}
    (path / "config.json").write_text(json.dumps({"agent": agent, "settings": settings}))
    return path


OBSERVATION_SPACE = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
"""(lane, time in the lane, episode of the lane, 1 if it is the last observation of an episode)."""


def outcome(script: str, t: int) -> tuple[bool, bool]:
    """What a lane's script says of step t, cyclically: '.' goes on, 'E' ends, 'C' is cut off, 'B' is both."""
    letter = script[t % len(script)]
    return letter in "EB", letter in "CB"


def reward(lane: int, t: int) -> float:
    """A reward that tells where and when it was given."""
    return 100.0 * lane + t + 1.0


class ScriptedVectorEnv(gym.vector.VectorEnv):
    """Envs that do what their scripts say, whatever the actions."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.SAME_STEP, "supports_new_task": True}

    def __init__(
        self,
        scripts: Sequence[str],
        episodes_per_trial: int | None = None,
        action_space: gym.Space | None = None,
        final_form: str = "full",
        tell_episodes: bool = True,
    ) -> None:
        self.scripts, self.episodes_per_trial, self.final_form = scripts, episodes_per_trial, final_form
        self.tell_episodes = tell_episodes
        self.num_envs = len(scripts)
        self.single_observation_space = OBSERVATION_SPACE
        self.single_action_space = gym.spaces.Discrete(3) if action_space is None else action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.actions: list[np.ndarray] = []

    def _observe(self, t: int, episodes: np.ndarray, last: float) -> np.ndarray:
        told = episodes if self.tell_episodes else np.zeros(self.num_envs)
        return np.stack(
            [np.arange(self.num_envs), np.full(self.num_envs, t), told, np.full(self.num_envs, last)], 1
        ).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        self.t, self.episodes = 0, np.zeros(self.num_envs, dtype=np.int64)
        infos = {} if self.episodes_per_trial is None else {"trial_start": np.ones(self.num_envs, dtype=bool)}
        return self._observe(0, self.episodes, 0.0), infos

    def step(self, actions):
        self.actions.append(np.array(actions))
        ends = np.array([outcome(script, self.t) for script in self.scripts])
        rewards = np.array([reward(lane, self.t) for lane in range(self.num_envs)])
        self.t += 1
        terminated, truncated = ends[:, 0], ends[:, 1]
        done = terminated | truncated
        infos: dict[str, Any] = {}
        if done.any():
            final = self._observe(self.t, self.episodes, 1.0)
            if self.final_form == "object":
                full, final = final, np.full(self.num_envs, None, dtype=object)
                for lane in np.flatnonzero(done):
                    final[lane] = full[lane]
            infos = {"final_obs": final, "_final_obs": done, "final_info": {"is_success": terminated.copy()}}
            self.episodes = self.episodes + done
            if self.episodes_per_trial is not None:
                infos["trial_start"] = done & (self.episodes % self.episodes_per_trial == 0)
        return self._observe(self.t, self.episodes, 0.0), rewards, terminated, truncated, infos

    def get_state(self):
        return {"t": self.t, "episodes": self.episodes.copy()}

    def set_state(self, state):
        self.t, self.episodes = state["t"], state["episodes"].copy()


class ScriptedEnv(gym.Env):
    """One lane of ``ScriptedVectorEnv``; ``broken`` maps a step to what it returns or raises there instead."""

    metadata: ClassVar = {"supports_new_task": True, "render_modes": []}
    observation_space = OBSERVATION_SPACE
    action_space = gym.spaces.Discrete(3)

    def __init__(self, script: str, lane: int = 0, broken: dict[int, Any] | None = None) -> None:
        self.script, self.lane, self.broken = script, lane, broken or {}
        self.t, self.episode = 0, -1
        self.new_tasks: list[bool | None] = []

    def _observe(self, last: float) -> np.ndarray:
        return np.array([self.lane, self.t, self.episode, last], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        self.new_tasks.append((options or {}).get("new_task"))
        self.episode += 1
        return self._observe(0.0), {}

    def step(self, action):
        t = self.t
        terminated, truncated = outcome(self.script, t)
        self.t += 1
        values = [self._observe(float(terminated or truncated)), reward(self.lane, t)]
        if t in self.broken:
            what = self.broken[t]
            if isinstance(what, Exception):
                raise what
            values = [what.get("observation", values[0]), what.get("reward", values[1])]
        return *values, terminated, truncated, {"is_success": terminated}


def scripted(*scripts: str, kind: str = "native", memory: MemoryConfig | None = None, **options: Any) -> VectorEnvs:
    """Envs that follow scripts, native or sync."""
    per_trial = None if memory is None else memory.episodes_per_trial
    if kind == "native":
        return VectorEnvs(ScriptedVectorEnv(scripts, per_trial, **options), "native", "scripted")

    def make_lane(lane: int) -> gym.Env:
        env: gym.Env = ScriptedEnv(scripts[lane], lane, **options)
        return SubEnv(env if per_trial is None else TrialEnv(env, per_trial), lane)

    functions = [functools.partial(make_lane, lane) for lane in range(len(scripts))]
    return VectorEnvs(gym.vector.SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP), "sync", "scripted")


class Seen(NamedTuple):
    """The state of ``KnownPolicy``'s actor or critic: the sum of the tags since memory began."""

    total: torch.Tensor  # (B,)


class KnownPolicy:
    """A policy whose value can be added up by hand: everything it has seen since memory began, this observation too.

    An observation of time t counts t + 1, the last of an episode 1000 more. With ``separate`` the state has two trunks,
    and the value is that of the second, which counts tenfold. Actions are always 1.
    """

    dtype, device = torch.float64, torch.device("cpu")
    observation_space = OBSERVATION_SPACE

    def __init__(self, memory: MemoryConfig, *, separate: bool = False) -> None:
        self.memory, self.separate = memory, separate
        self.inputs = InputsConfig().resolve(memory.lifetime)
        self.action_space = gym.spaces.Discrete(3)
        self.distribution = make_distribution(self.action_space, squash=False, scale=True, initial_log_std=0.0)
        self.value_calls: list[int] = []

    def init_state(self, batch_size: int) -> tuple[Seen, ...]:
        return tuple(Seen(torch.zeros(batch_size, dtype=self.dtype)) for _ in range(1 + self.separate))

    def acting_snapshot(self, *, block: int, ranks: Any) -> "KnownPolicy":
        return self

    def _advance(self, inputs: PolicyInputs, state: Any, is_first: torch.Tensor) -> tuple[torch.Tensor, Any]:
        tags = inputs.observations[:, 1] + 1 + 1000 * inputs.observations[:, 3]
        scales = (1.0, 10.0)
        state = tuple(
            Seen(torch.where(is_first, 0.0, trunk.total) + scale * tags)
            for trunk, scale in zip(state, scales, strict=False)
        )
        return state[-1].total, state

    def sample(self, inputs: PolicyInputs, state: Any, is_first: torch.Tensor) -> SampledStep:
        values, state = self._advance(inputs, state, is_first)
        return SampledStep(torch.ones(len(values), dtype=torch.int64), values.unsqueeze(-1), state)

    def read(self, outputs: torch.Tensor, actions: torch.Tensor, action_masks: Any) -> tuple[torch.Tensor, ...]:
        return torch.zeros_like(outputs[..., 0]), outputs[..., 0]

    def values(self, inputs: PolicyInputs, state: Any, is_first: torch.Tensor) -> torch.Tensor:
        self.value_calls.append(len(is_first))
        return self._advance(inputs, state, is_first)[0]


def make_policy(
    observation_space: gym.Space = OBSERVATION_SPACE,
    action_space: gym.Space | None = None,
    memory: MemoryConfig | None = None,
    inputs: InputsConfig | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    noise: float = 0.3,
    **config: Any,
) -> RecurrentPolicy:
    """A small real policy whose every weight matters: noise on top of the usual initialisation."""
    torch.manual_seed(seed)
    plain = {"normalize_observations": False, "scale_rewards": False}
    settings = {"hidden_size": 5, "encoder_sizes": (6,), **plain, **config}
    policy = RecurrentPolicy(
        observation_space,
        gym.spaces.Discrete(3) if action_space is None else action_space,
        PolicyConfig(**settings),
        memory or MemoryConfig(),
        inputs or InputsConfig(),
        generator=torch.Generator().manual_seed(seed + 1),
    ).to(dtype)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return policy


def rollout_leaves(rollout: Rollout) -> dict[str, torch.Tensor]:
    """Every stored tensor of a rollout by its place, but for the initial state."""
    leaves: dict[str, torch.Tensor] = {}

    def collect(name: str, tree: Any) -> None:
        if isinstance(tree, torch.Tensor):
            leaves[name] = tree
        elif isinstance(tree, dict):
            for key, branch in tree.items():
                collect(f"{name}.{key}", branch)
        elif tree is not None:
            for index, branch in enumerate(tree):
                collect(f"{name}.{index}", branch)

    for field in dataclasses.fields(rollout):
        if field.name != "initial_state":
            collect(field.name, getattr(rollout, field.name))
    return leaves


def assert_trees_equal(left: Any, right: Any) -> None:
    """Two trees of tensors, arrays and numbers are equal, bit for bit, types too."""

    def check(a: Any, b: Any) -> None:
        if isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
        else:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

    tree_map(check, left, right)
    tree_map(check, right, left)


def short_rollouts(agent: str) -> dict[str, int]:
    """Settings with which an agent that a test has no own ones for takes few steps an update."""
    fields = load_agent_config(agent).__dataclass_fields__
    return {name: count for name, count in {"num_steps": 8, "num_episodes": 6}.items() if name in fields}


@torch.no_grad()
def open_forget_gates(cell: Any) -> None:
    """Raise the forget biases of a conv_lstm, an mLSTM or a block of an xLSTM so far that its gates stay open."""
    width = getattr(cell, "hidden_size", 0)
    kind = type(cell).__name__
    if kind == "ConvLSTMCell":
        cell.bias.chunk(4)[1].fill_(50.0)
    elif kind == "MLSTMCell":
        cell.bias_ih[-cell.num_heads :] = 50.0
    elif kind == "MLSTMBlock":
        cell.bias_gates[-cell.num_heads :] = 50.0
    elif kind == "SLSTMBlock":
        cell.bias_ih[:width] = -50.0  # Its gate is the share of what is kept beside what is written.
