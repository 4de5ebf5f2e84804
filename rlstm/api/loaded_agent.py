"""A trained policy as a user's own program wants it: an object that keeps its state and acts."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from rlstm.core.arrays import ACTION_MASK_KEY, Array, BoolArray, FloatArray
from rlstm.core.observations import fitted
from rlstm.core.trees import Tree, tree_map
from rlstm.policies.inputs import Decision
from rlstm.policies.memory_names import named_memory
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.inputs import PolicyInputsTracker, inner_step

NaN = Literal["refuse", "hold"]
"""What becomes of an observation that is not finite."""


class Origin(NamedTuple):
    """Where a policy comes from, for people."""

    run: str
    checkpoint: str
    step: int
    cell: str
    wrappers: tuple[str, ...] = ()  # Of the env: observations are as they return them.


class LoadedAgent:
    """A trained policy that keeps its own state, for one env or for N at a time.

    With ``nan="hold"`` a number that is not finite, as of a sensor that drops out, is taken to be what it was before,
    or at first what it was in the mean in training; otherwise it is refused, and the memory stays as it was.

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

    With ``num_envs`` every argument and result has an axis of N envs in front, and ``reset`` takes those that begin.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        *,
        nan: NaN = "refuse",
        deterministic: bool = True,
        num_envs: int | None = None,
        origin: Origin | None = None,
    ) -> None:
        if nan not in get_args(NaN):
            raise ValueError(f"nan is {nan!r}; it must be one of {', '.join(get_args(NaN))}.")
        if num_envs is not None and num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; it must be at least 1, or None for one env without an axis.")
        self.policy = policy
        self._holds, self._deterministic = nan == "hold", deterministic
        self._num_envs, self._origin = num_envs, origin
        self._space = policy.observation_space
        if num_envs is not None:
            self._space = batch_space(self._space, num_envs)
        self._snapshot = policy.acting_snapshot()
        self._begin()

    def __repr__(self) -> str:
        """Return where the agent comes from, and what it reads and does."""
        origin = f"{self._origin.run}, {self._origin.checkpoint} checkpoint, " if self._origin else ""
        trained = f"step {self._origin.step:,}, cell {self._origin.cell}, " if self._origin else ""
        envs = "" if self._num_envs is None else f"{self._num_envs} envs, "
        read = f"observations {self.policy.observation_space}, actions {self.policy.action_space}"
        return f"LoadedAgent({origin}{trained}{envs}{read})"

    def _begin(self) -> None:
        self._state = self.policy.init_state(self._size)
        self._tracker: PolicyInputsTracker | None = None
        self._decision: Decision | None = None
        self._mask: torch.Tensor | None = None
        self._starts: BoolArray = np.ones(self._size, dtype=bool)  # Where the memory is empty.
        # The observation before, (N, ...); at first one that says nothing.
        usual = self.policy.actor.encoder.usual(self.policy.observation_space)
        self._last: Tree = tree_map(lambda leaf: np.broadcast_to(leaf, (self._size, *leaf.shape)), usual)

    @property
    def _size(self) -> int:
        return 1 if self._num_envs is None else self._num_envs

    def reset(self, envs: Any = None) -> None:
        """Empty the memory: the next observation is the first that the agent ever sees.

        Args:
            envs: Which of the N envs, as booleans ``(N,)``; all of them by default.
        """
        if envs is None:
            self._begin()
            return
        rows = np.asarray(envs)
        if self._num_envs is None or rows.shape != (self._size,) or rows.dtype != np.bool_:
            raise ValueError(f"envs is {envs!r}; it must be booleans, one for each of num_envs ({self._num_envs}).")
        self._starts = self._starts | rows

    @torch.inference_mode()
    def act(
        self,
        observation: Any,
        reward: Any = None,
        episode_start: Any = False,
        action_mask: Any = None,
        *,
        deterministic: bool | None = None,
    ) -> Any:
        """Choose an action for the next observation, and remember it.

        Args:
            observation: Of the env's observation space.
            reward: What the action before brought; must be given where the agent was trained to see it, but for the
                first observation.
            episode_start: Whether an episode begins here; the first observation after ``reset`` always begins one.
            action_mask: True where an action is allowed; None allows all.
            deterministic: Take the likeliest action instead of sampling; by default as evaluations of the run did.

        Returns:
            An action of the env's action space.

        Raises:
            ValueError: If the observation is not of the observation space, the mask doesn't fit the actions or allows
                none, or a number is not finite; the memory is then as it was before.
        """
        seen = self._read(observation)
        if reward is None and self.policy.inputs.previous_reward and not self._starts.all():
            raise ValueError(
                "This agent was trained to see the reward of its action before, and none is given: "
                "act(observation, reward)."
            )
        rewards = self._of_envs("reward", 0.0 if reward is None else reward, np.float64)
        starts = self._of_envs("episode_start", episode_start, bool)
        if not np.isfinite(rewards).all():
            raise ValueError(f"The reward is {reward}; it must be a finite number.")
        mask = self._read_mask(seen, action_mask)
        step = inner_step(seen, rewards, mask)
        if self._tracker is None or self._decision is None:
            self._tracker = PolicyInputsTracker(self.policy, step)
        else:
            self._tracker.advance(step, self._decision.actions, self._starts)
            self._tracker.episode_starts = starts | self._starts
        is_first = torch.as_tensor(self._tracker.is_first, device=self.policy.device)
        inputs = self._tracker.inputs()
        likeliest = self._deterministic if deterministic is None else deterministic
        self._decision = self._snapshot.decide(inputs, self._state, is_first, deterministic=likeliest)
        self._state, self._mask, self._last = self._decision.state, inputs.action_masks, seen
        self._starts = np.zeros(self._size, dtype=bool)
        actions = self.policy.distribution.to_env(self._decision.actions)
        if self._num_envs is not None:
            return actions
        return actions[0].item() if np.ndim(actions[0]) == 0 else actions[0]

    @property
    def value(self) -> Any:
        """The critic's value of the last observation, in raw reward units, a number or ``(N,)``."""
        values: FloatArray = self._decided().values.numpy(force=True)
        return values if self._num_envs is not None else float(values[0])

    @property
    def action_probabilities(self) -> Any:
        """The probabilities of the choices at the last observation, ``(n,)`` or ``(N, n)``.

        A list of them for several choices, those of ones for bits; None where actions are numbers.
        """
        parameters = self._decided().parameters
        found = [one.numpy(force=True) for one in self.policy.distribution.probabilities(parameters, self._mask)]
        found = found if self._num_envs is not None else [one[0] for one in found]
        return (found[0] if len(found) == 1 else found) if found else None

    @property
    def memory(self) -> dict[str, Array]:
        """What the memory holds by name, copies ``(...)`` or ``(N, ...)``."""
        arrays = {name: leaf.numpy(force=True).copy() for name, leaf in named_memory(self._state).items()}
        return arrays if self._num_envs is not None else {name: one[0] for name, one in arrays.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next action depends on, beside the weights, as tensors and plain containers.

        ``torch.save`` writes it, and ``torch.load(..., weights_only=True)`` reads it back.
        """
        return {
            "memory": {name: leaf.clone() for name, leaf in named_memory(self._state).items()},
            "decision": None if self._decision is None else [one.clone() for one in self._decision[:-1]],
            "mask": None if self._mask is None else self._mask.clone(),
            "last": tree_map(_as_tensor, self._last),
            "starts": torch.as_tensor(self._starts),
            "generator": self.policy.generator.get_state(),
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned, in a program that has begun anew for instance.

        Raises:
            ValueError: If it is another agent's, or of another number of envs.
        """
        self._begin()
        own = named_memory(self._state)
        shapes = [{name: tuple(leaf.shape) for name, leaf in one.items()} for one in (own, values["memory"])]
        if shapes[0] != shapes[1]:
            raise ValueError(f"The state is of a memory {shapes[1]}, but this agent's is {shapes[0]}.")
        found = iter(values["memory"][name] for name in own)
        self._state = tree_map(lambda leaf: next(found).to(leaf, copy=True), self._state)
        self._starts = values["starts"].numpy().copy()
        self.policy.generator.set_state(values["generator"])
        self._last = tree_map(_as_array, values["last"])
        if values["decision"] is None:
            return
        # All that it holds is replaced at the next step.
        self._tracker = PolicyInputsTracker(self.policy, inner_step(self._last, np.zeros(self._size), None))
        device = self.policy.device
        actions, parameters, critic = (one.to(device) for one in values["decision"])
        self._decision = Decision(actions, parameters, critic, self._state)
        self._mask = None if values["mask"] is None else values["mask"].to(device)

    def _decided(self) -> Decision:
        if self._decision is None:
            raise ValueError("There is no value and no probability yet: act on an observation first.")
        return self._decision

    def _read(self, observation: Any) -> Tree:
        """Return an observation as arrays ``(N, ...)`` of its own, finite."""
        is_pair = isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict)
        if is_pair and not isinstance(self.policy.observation_space, spaces.Tuple):
            raise ValueError("The observation is a pair, as reset returns it: give its first part, without the info.")
        try:
            seen = fitted(_without_words(observation, self._space), self._space)
        except ValueError as error:
            wrappers = self._origin.wrappers if self._origin else ()
            if wrappers:
                error.add_note(f"The agent was trained in the wrappers {' '.join(wrappers)}: give what they return.")
            raise
        if self._num_envs is None:
            seen = tree_map(lambda leaf: np.asarray(leaf)[None], seen)
        return tree_map(np.array, self._finite(seen, self._last))  # A copy: the caller may write to its own.

    def _of_envs(self, name: str, value: Any, kind: Any) -> Array:
        """Return a number of each env ``(N,)``; one stands for all."""
        array = np.asarray(value, dtype=kind)
        if array.shape not in ((), (self._size,)):
            raise ValueError(f"{name} has shape {array.shape}; it must be one, or one for each of {self._size} envs.")
        return np.broadcast_to(array, (self._size,)).copy()

    def _finite(self, observation: Tree, last: Tree, place: str = "The observation") -> Tree:
        """Return an observation whose numbers are finite: those of ``last`` if so asked, or refused by place."""
        if isinstance(observation, dict):
            return {key: self._finite(part, last[key], f"{place}['{key}']") for key, part in observation.items()}
        if isinstance(observation, tuple):
            parts = enumerate(zip(observation, last, strict=True))
            return tuple(self._finite(part, one, f"{place}[{index}]") for index, (part, one) in parts)
        if observation.dtype.kind != "f" or np.isfinite(observation).all():
            return observation
        if self._holds:
            return np.where(np.isfinite(observation), observation, last)
        remedy = "rlstm.load(run, nan='hold') repeats the last good value"
        found = observation[~np.isfinite(observation)].flat[0]
        shown = observation if self._num_envs is not None else observation[0]
        raise ValueError(f"{place} holds {found} in {shown.tolist()}: {remedy}.")

    def _read_mask(self, observation: Tree, mask: Any) -> BoolArray | None:
        """Return the action masks ``(N, M)``, given, in a Dict observation, or what both allow."""
        seen = observation.get(ACTION_MASK_KEY) if isinstance(observation, dict) else None
        if mask is None and seen is None:
            return None
        if mask is not None and seen is not None and np.size(mask) == np.size(seen):
            mask = np.asarray(mask, dtype=bool).reshape(-1) & np.asarray(seen, dtype=bool).reshape(-1)
        mask = seen if mask is None else mask
        size, found = self.policy.distribution.mask_size, np.asarray(mask)
        if size is None:
            raise ValueError(f"There is an action mask, but actions of {self.policy.action_space} can't be masked.")
        if found.size != size * self._size:
            per_env = f"{size} booleans{'' if self._num_envs is None else ' an env'}"
            raise ValueError(f"The action mask has shape {found.shape}; it must have {per_env}.")
        allowed: BoolArray = found.astype(bool).reshape(self._size, size)
        if not allowed.any(axis=1).all():
            raise ValueError("The action mask allows no action.")
        return allowed


def _as_tensor(leaf: Any) -> torch.Tensor:
    return leaf.clone() if isinstance(leaf, torch.Tensor) else torch.as_tensor(np.array(leaf))


def _as_array(leaf: Any) -> Any:
    return leaf.numpy(force=True).copy() if isinstance(leaf, torch.Tensor) else leaf


def _without_words(observation: Any, space: spaces.Space[Any]) -> Any:
    """Return an observation without the text in its dicts, which vector envs leave out too (``text_leaves``)."""
    if not isinstance(observation, dict) or not isinstance(space, spaces.Dict):
        return observation
    parts = space.spaces
    return {
        key: _without_words(part, parts[key]) if key in parts else part
        for key, part in observation.items()
        if key in parts or not isinstance(part, str)
    }
