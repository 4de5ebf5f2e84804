"""A trained policy as a user's own program wants it: an object that keeps its state and acts."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from gymnasium import spaces

from rlstm.core.arrays import ACTION_MASK_KEY, BoolArray
from rlstm.core.observations import fitted
from rlstm.core.trees import Tree, tree_map
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.inputs import PolicyInputsTracker
from rlstm.vector.adapter import EnvStep

NaN = Literal["refuse", "hold"]
"""What becomes of an observation that is not finite."""


class LoadedAgent:
    """A trained policy that keeps its own state, for one env at a time.

    With ``nan="hold"`` a number that is not finite, as of a sensor that drops out, is taken to be what it was before;
    otherwise it is refused, and the memory stays as it was.

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

    def __init__(self, policy: RecurrentPolicy, *, nan: NaN = "refuse", deterministic: bool = True) -> None:
        if nan not in get_args(NaN):
            raise ValueError(f"nan is {nan!r}; it must be one of {', '.join(get_args(NaN))}.")
        self.policy = policy
        self._holds, self._deterministic = nan == "hold", deterministic
        self._snapshot = policy.acting_snapshot()
        self.reset()

    def reset(self) -> None:
        """Empty the memory: the next observation is the first that the agent ever sees."""
        self._state = self.policy.init_state(1)
        self._tracker: PolicyInputsTracker | None = None
        self._actions: torch.Tensor | None = None
        self._last: Tree = None  # The observation before.

    @torch.inference_mode()
    def act(
        self,
        observation: Any,
        reward: float = 0.0,
        episode_start: bool = False,
        action_mask: Any = None,
        *,
        deterministic: bool | None = None,
    ) -> Any:
        """Choose an action for the next observation, and remember it.

        Args:
            observation: Of the env's observation space.
            reward: What the action before brought; needed where the agent was trained with the previous reward.
            episode_start: Whether an episode begins here; the first observation after ``reset`` always begins one.
            action_mask: True where an action is allowed; None allows all.
            deterministic: Take the likeliest action instead of sampling; by default as evaluations of the run did.

        Returns:
            An action of the env's action space.

        Raises:
            ValueError: If the observation is not of the observation space, the mask doesn't fit the actions or allows
                none, or a number is not finite; the memory is then as it was before.
        """
        space = self.policy.observation_space
        is_pair = isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict)
        if is_pair and not isinstance(space, spaces.Tuple):
            raise ValueError("The observation is a pair, as reset returns it: give its first part, without the info.")
        observation = fitted(_without_words(observation), space)
        # A copy: the caller may write to its own.
        observation = tree_map(np.array, self._finite(observation, self._last))
        if not np.isfinite(reward):
            raise ValueError(f"The reward is {reward}; it must be a finite number.")
        mask = self._mask(observation, action_mask)
        self._last = observation
        step = _one_step(tree_map(lambda leaf: leaf[None], observation), reward, mask)
        if self._tracker is None or self._actions is None:
            self._tracker = PolicyInputsTracker(self.policy, step)
        else:
            self._tracker.advance(step, self._actions, np.zeros(1, dtype=bool))
            self._tracker.episode_starts = np.array([episode_start])
        is_first = torch.as_tensor(self._tracker.is_first, device=self.policy.device)
        likeliest = self._deterministic if deterministic is None else deterministic
        inputs = self._tracker.inputs()
        self._actions, self._state = self._snapshot.act(inputs, self._state, is_first, deterministic=likeliest)
        action = self.policy.distribution.to_env(self._actions)[0]
        return action.item() if np.ndim(action) == 0 else action

    def _finite(self, observation: Tree, last: Tree = None, place: str = "The observation") -> Tree:
        """Return an observation whose numbers are finite: those of ``last`` if so asked, or refused by place."""
        if isinstance(observation, dict):
            return {
                key: self._finite(part, None if last is None else last[key], f"{place}['{key}']")
                for key, part in observation.items()
            }
        if isinstance(observation, tuple):
            lasts = (None,) * len(observation) if last is None else last
            parts = enumerate(zip(observation, lasts, strict=True))
            return tuple(self._finite(part, one, f"{place}[{index}]") for index, (part, one) in parts)
        if observation.dtype.kind != "f" or np.isfinite(observation).all():
            return observation
        if self._holds and last is not None:
            return np.where(np.isfinite(observation), observation, last)
        remedy = "rlstm.load(run, nan='hold') repeats the last good value"
        if self._holds:
            remedy = "hold needs one observation before it"
        found = observation[~np.isfinite(observation)].flat[0]
        raise ValueError(f"{place} holds {found} in {observation.tolist()}: {remedy}.")

    def _mask(self, observation: Tree, mask: Any) -> BoolArray | None:
        """Return the action mask ``(1, M)``, given or in a Dict observation."""
        if mask is None and isinstance(observation, dict):
            mask = observation.get(ACTION_MASK_KEY)
        if mask is None:
            return None
        size, found = self.policy.distribution.mask_size, np.asarray(mask)
        if size is None:
            raise ValueError(f"There is an action mask, but actions of {self.policy.action_space} can't be masked.")
        if found.size != size:
            raise ValueError(f"The action mask has shape {found.shape}; it must have {size} booleans.")
        allowed: BoolArray = found.astype(bool).reshape(1, -1)
        if not allowed.any():
            raise ValueError("The action mask allows no action.")
        return allowed


def _without_words(observation: Any) -> Any:
    """Return an observation without the text in its dicts, which vector envs leave out too (``text_leaves``)."""
    if not isinstance(observation, dict):
        return observation
    return {key: _without_words(part) for key, part in observation.items() if not isinstance(part, str)}


def _one_step(observations: Tree, reward: float, mask: BoolArray | None) -> EnvStep:
    nothing: BoolArray = np.zeros(1, dtype=bool)
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
