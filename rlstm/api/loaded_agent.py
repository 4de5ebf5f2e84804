"""A trained policy as a user's own program wants it: an object that keeps its state and acts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rlstm.core.arrays import ACTION_MASK_KEY, BoolArray
from rlstm.core.trees import tree_map
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.inputs import PolicyInputsTracker
from rlstm.vector.adapter import EnvStep


class LoadedAgent:
    """A trained policy that keeps its own state, for one env at a time.

    ``reset`` empties the memory. Call it where the agent's memory ends: before every episode, unless the agent was
    trained to remember across episodes; then call it before every trial and mark episodes by ``episode_start``.

    Example::

        agent = rlstm.load("runs/my_run")
        observation, _ = env.reset()
        agent.reset()
        done = False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(agent.act(observation))
            done = terminated or truncated
    """

    def __init__(self, policy: RecurrentPolicy) -> None:
        self.policy = policy
        self._snapshot = policy.acting_snapshot()
        self.reset()

    def reset(self) -> None:
        """Empty the memory: the next observation is the first that the agent ever sees."""
        self._state = self.policy.init_state(1)
        self._tracker: PolicyInputsTracker | None = None
        self._actions: torch.Tensor | None = None

    @torch.inference_mode()
    def act(
        self,
        observation: Any,
        reward: float = 0.0,
        episode_start: bool = False,
        action_mask: Any = None,
        *,
        deterministic: bool = True,
    ) -> Any:
        """Choose an action for the next observation, and remember it.

        Args:
            observation: Of the env's observation space.
            reward: What the action before brought; needed where the agent was trained with the previous reward.
            episode_start: Whether an episode begins here; the first observation after ``reset`` always begins one.
            action_mask: True where an action is allowed; None allows all.
            deterministic: Take the likeliest action instead of sampling.

        Returns:
            An action of the env's action space.

        Raises:
            ValueError: If the observation is not of the observation space.
        """
        space = self.policy.observation_space
        observation = _without_words(observation)
        if isinstance(observation, list) or not space.contains(observation):
            observation = _fitted(space, observation)
        if isinstance(observation, tuple):  # Of any kind, as a plain one.
            observation = tuple(observation)
        step = _one_step(tree_map(lambda leaf: np.asarray(leaf)[None], observation), reward, action_mask)
        if self._tracker is None or self._actions is None:
            self._tracker = PolicyInputsTracker(self.policy, step)
        else:
            self._tracker.advance(step, self._actions, np.zeros(1, dtype=bool))
            self._tracker.episode_starts = np.array([episode_start])
        is_first = torch.as_tensor(self._tracker.is_first, device=self.policy.device)
        self._actions, self._state = self._snapshot.act(
            self._tracker.inputs(), self._state, is_first, deterministic=deterministic
        )
        action = self.policy.distribution.to_env(self._actions)[0]
        return action.item() if np.ndim(action) == 0 else action


def _without_words(observation: Any) -> Any:
    """Return an observation without the text in its dicts, which vector envs leave out too (``text_leaves``)."""
    if not isinstance(observation, dict):
        return observation
    return {key: _without_words(part) for key, part in observation.items() if not isinstance(part, str)}


def _fitted(space: Any, observation: Any) -> Any:
    """Return a bare array or number in the type of the space, or raise if its shape is another."""
    array = np.asarray(observation)
    if space.shape is None or array.shape != space.shape:
        raise ValueError(f"The observation has shape {array.shape}; the agent was trained on {space}.")
    return array.astype(space.dtype)


def _one_step(observations: Any, reward: float, action_mask: Any) -> EnvStep:
    nothing: BoolArray = np.zeros(1, dtype=bool)
    mask = None if action_mask is None else np.asarray(action_mask, dtype=bool).reshape(1, -1)
    if mask is None and isinstance(observations, dict) and ACTION_MASK_KEY in observations:
        mask = np.asarray(observations[ACTION_MASK_KEY], dtype=bool).reshape(1, -1)
    return EnvStep(
        observations=observations,
        rewards=np.array([float(reward)]),
        terminated=nothing,
        truncated=nothing,
        episode_ends=nothing,
        trial_ends=nothing,
        action_masks=mask,
        finished=np.zeros(0, dtype=np.intp),
        final_observations=None,
        successes=np.zeros(0),
    )
