"""Episodes of one env, played step by step with all that decided each step.

The env is a single one that nothing resets but this module, so the last frame of an episode is seen, and so is every
info. What is played is what an evaluation plays: ``PolicyInputsTracker`` gives the inputs, ``ActingSnapshot`` decides.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

from rlstm.core.arrays import ACTION_MASK_KEY, Array, BoolArray
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.seeding import Stream, generator, integer_seeds
from rlstm.core.trees import Tree, tree_map
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.memory_names import named_memory
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.inputs import PolicyInputsTracker, inner_step
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make_single
from rlstm.vector.sub_env import SubEnv, TrialEnv

Frame = Any
"""An image ``(height, width, 3)`` of bytes, a text, or None."""


@dataclass
class Moment:
    """One step: what was seen, held, thought and done, and what came of it."""

    frame: Frame
    observation: Tree  # Leaves (...).
    inputs: PolicyInputs  # Of the policy, leaves (1, ...).
    is_first: bool  # The memory was reset before this observation.
    episode_start: bool
    action: Array  # As the env takes it.
    stored_action: torch.Tensor  # As the policy keeps it, (1, ...).
    parameters: Array  # Of the distribution, (P,).
    probabilities: list[Array]  # Of the choices; none where actions are numbers.
    value: float
    memory: dict[str, Array]  # After this observation.
    reward: float = 0.0  # What the action brought.
    total: float = 0.0  # Return of the episode so far, this reward included.
    probes: Array = field(default_factory=lambda: np.zeros(0))  # Numbers of its info, then of the env's hidden state.


@dataclass
class Episode:
    """Complete, or cut after ``max_steps``."""

    seed: int | None  # Of the reset; None if the env went on with its own stream.
    moments: list[Moment]
    last_frame: Frame = None  # After the last action.
    terminated: bool = False
    success: float = float("nan")

    @property
    def total(self) -> float:
        """The undiscounted return."""
        return self.moments[-1].total


def make_env(
    spec: EnvSpec,
    config: EnvConfig,
    memory: MemoryConfig,
    *,
    render_mode: str | None = None,
    probes: Sequence[str] = (),
) -> SubEnv:
    """Make a single env to play back in.

    Args:
        spec: As of ``resolve_spec``.
        config: Its arguments and wrappers.
        memory: With trials, how many episodes one has.
        render_mode: How it draws, if it shall.
        probes: Keys of numbers of its infos that are kept.

    Raises:
        EnvironmentFailure: If it can't be made, or can't draw so, with what it offers.
    """
    options = {} if render_mode is None else {"render_mode": render_mode}
    if render_mode == "rgb_array" and not has_screen():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # Envs that draw by SDL look for a screen, and complain.
    try:
        env = make_single(spec, config, disable_env_checker=True, **options)
    except Exception as error:
        raise EnvironmentFailure(f"Could not make '{spec.id}' to draw it as {render_mode}: {error}") from error
    if memory.episodes_per_trial is not None:
        env = TrialEnv(env, memory.episodes_per_trial, insist=memory.insist_on_trials)
    return SubEnv(env, 0, probes)


def render_modes(spec: EnvSpec, config: EnvConfig) -> list[str]:
    """Return how an env can draw itself, as it declares."""
    try:
        made = make_single(spec, config, disable_env_checker=True)
    except Exception as error:
        raise EnvironmentFailure(f"Could not make '{spec.id}': {type(error).__name__}: {error}") from error
    with closing(made) as env:
        return [str(mode) for mode in env.unwrapped.metadata.get("render_modes", [])]


def has_screen() -> bool:
    """Return whether there is a screen for windows."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def frames_per_second(env: gym.Env[Any, Any]) -> float:
    """Return how fast an env says that it should be shown, 10 if it doesn't."""
    found = env.unwrapped.metadata.get("render_fps")
    return float(found) if isinstance(found, (int, float)) and found > 0 else 10.0


class Playback:
    """Plays one env.

    Args:
        policy: What acts.
        env: Of ``make_env``.
        seed: Decides the episodes and the sampled actions.
        deterministic: Whether to take the likeliest actions.
        ablate_memory: Whether to reset the memory before every step.
        stream: Names the seeds: those of evaluations are another's.
        max_steps: Steps after which an episode is cut.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        env: SubEnv,
        *,
        seed: int,
        deterministic: bool,
        ablate_memory: bool = False,
        stream: Stream = "playback",
        max_steps: int = 100_000,
    ) -> None:
        self._policy, self._env, self._max_steps = policy, env, max_steps
        self._seed: int | None = integer_seeds(seed, stream, 1)[0]
        self._deterministic, self._ablates = deterministic, ablate_memory
        source = generator(seed, "playback_actions", policy.device)
        self._snapshot = policy.acting_snapshot(source)
        self._state = policy.init_state(1)
        self.draws = True  # Whether moments have frames, where the env draws.
        self._tracker: PolicyInputsTracker | None = None
        self._decided: Any = None

    def play(self) -> Episode:
        """Play the next episode to its end, or with trials all episodes of the next trial as one."""
        *_, (_, episode) = self.episode()
        for _ in range((self._policy.memory.episodes_per_trial or 1) - 1):
            *_, (_, following) = self.episode()
            episode = _joined(episode, following)
        return episode

    def episode(self) -> Iterator[tuple[Moment, Episode]]:
        """Play the next episode: yields each moment, with its reward, and the episode so far."""
        seed, self._seed = self._seed, None
        observation, info = self._env.reset(seed=seed)
        episode = Episode(seed, [])
        begins, reward, frame = self._begins(info), 0.0, self._draw()
        while len(episode.moments) < self._max_steps:
            moment = self._decide(observation, info, reward, begins, not episode.moments, frame)
            before = episode.total if episode.moments else 0.0
            episode.moments.append(moment)
            observation, reward, terminated, truncated, info = self._env.step(moment.action)
            moment.reward, moment.total = reward, before + reward
            frame, begins = self._draw(), False
            episode.last_frame, episode.terminated = frame, terminated
            episode.success = info.get("is_success", float("nan"))
            yield moment, episode
            if terminated or truncated:
                return

    def _begins(self, info: dict[str, Any]) -> bool:
        lifetime = self._policy.memory.lifetime
        if self._tracker is None or lifetime == "episode":
            return True
        return lifetime == "trial" and bool(info.get("trial_start", True))

    def _hidden(self) -> Array:
        """Return what the env hides, if it can tell: our own tasks do."""
        tell = getattr(getattr(self._env.unwrapped, "task", None), "hidden_state", None)
        return np.asarray(tell()[0], dtype=np.float64).reshape(-1) if callable(tell) else np.zeros(0)

    def _draw(self) -> Frame:
        return self._env.render() if self.draws and self._env.render_mode not in (None, "human") else None

    @torch.inference_mode()
    def _decide(
        self, observation: Tree, info: dict[str, Any], reward: float, begins: bool, starts: bool, frame: Frame
    ) -> Moment:
        seen = tree_map(lambda leaf: np.array(leaf)[None], observation)
        step = inner_step(seen, np.array([reward]), _mask(observation, info))
        if self._tracker is None:
            self._tracker = PolicyInputsTracker(self._policy, step)
        else:
            self._tracker.advance(step, self._decided.actions, np.array([begins]))
            self._tracker.episode_starts = np.array([starts])
        is_first = torch.tensor([begins or self._ablates], device=self._policy.device)
        inputs = self._tracker.inputs()
        self._decided = self._snapshot.decide(inputs, self._state, is_first, deterministic=self._deterministic)
        self._state = self._decided.state
        distribution = self._policy.distribution
        probabilities = distribution.probabilities(self._decided.parameters, inputs.action_masks)
        return Moment(
            frame=frame,
            observation=observation,
            inputs=inputs,
            is_first=bool(is_first),
            episode_start=starts,
            action=distribution.to_env(self._decided.actions)[0],
            stored_action=self._decided.actions,
            parameters=self._decided.parameters[0].numpy(force=True),
            probabilities=[one[0].numpy(force=True) for one in probabilities],
            value=float(self._decided.values),
            memory={name: leaf[0].numpy(force=True).copy() for name, leaf in named_memory(self._state).items()},
            probes=np.concatenate([np.asarray(info.get("logged", np.zeros(0))), self._hidden()]),
        )


def _joined(one: Episode, following: Episode) -> Episode:
    """Return two episodes of a trial as one, with the return of both."""
    before = one.total
    for moment in following.moments:
        moment.total += before
    moments = [*one.moments, *following.moments]
    return Episode(one.seed, moments, following.last_frame, following.terminated, following.success)


def _mask(observation: Tree, info: dict[str, Any]) -> BoolArray | None:
    mask = observation.get(ACTION_MASK_KEY) if isinstance(observation, dict) else None
    mask = info.get(ACTION_MASK_KEY) if mask is None else mask
    return None if mask is None else np.asarray(mask, dtype=bool).reshape(1, -1)
