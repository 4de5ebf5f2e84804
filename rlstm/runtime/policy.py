"""An exported policy as a program wants it: an object that keeps its memory and acts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rlstm.runtime.description import read_export
from rlstm.runtime.observations import MASK, read_masks, read_observations
from rlstm.runtime.session import open_session, run_session

Array = npt.NDArray[Any]


class OnnxPolicy:
    """A policy that ``rlstm export --format onnx`` wrote; it keeps its own memory, of one env or of B.

    ``reset`` empties the memory. Call it where ``description["memory"]["reset"]`` says: before every episode, unless
    the agent was trained to remember across episodes; then mark inner episodes by ``episode_start``.

    Args:
        folder: What was exported; the checksum of the model is verified.
        num_threads: Threads of onnxruntime; single steps gain nothing from more than one.
        rng: Samples actions where that is asked for.

    Raises:
        ImportError: If onnxruntime is missing.
        ValueError: If the folder is no export, or damaged.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, num_threads: int = 1, rng: np.random.Generator | None = None
    ) -> None:
        self.description, model = read_export(folder, "policy.onnx")
        self._session = open_session(model, num_threads)
        self._rng = np.random.default_rng() if rng is None else rng
        self._inputs = {leaf["name"]: leaf for leaf in self.description["inputs"]}
        self._leaves = [leaf for leaf in self._inputs.values() if "path" in leaf]
        self.reset()

    def reset(self) -> None:
        """Empty the memory: the next observation is the first that the policy ever sees."""
        self._fed: dict[str, Array] = {}  # What the step before put out, by the input that it is for.
        self._last: dict[str, Array] = {}

    def act(
        self,
        observation: Any,
        reward: float | None = None,
        episode_start: bool = False,
        action_mask: Any = None,
        *,
        deterministic: bool | None = None,
        rng: np.random.Generator | None = None,
    ) -> Any:
        """Choose an action for the next observation of one env, and remember it.

        Args:
            observation: Of the env's observation space.
            reward: What the action before brought; must be given where the policy sees it, but for the first
                observation.
            episode_start: Whether an episode begins here; the first observation after ``reset`` always begins one.
            action_mask: True where an action is allowed; None allows all, or what a Dict observation says.
            deterministic: Take the likeliest action instead of sampling; by default as evaluations of the run did.
            rng: Samples; by default that of this object.

        Returns:
            An action of the env's action space.

        Raises:
            ValueError: If the observation or the mask doesn't fit, or a number is not finite; the memory is then as it
                was before.
        """
        parts = read_observations(observation, self._leaves, batched=False)
        if action_mask is None and isinstance(observation, dict):
            action_mask = observation.get(MASK)
        starts = np.array([episode_start])
        self._refuse_missing(reward)
        rewards = np.array([0.0 if reward is None else reward])
        action = self._step(parts, rewards, starts, None, action_mask, deterministic, rng)[0]
        return action.item() if np.ndim(action) == 0 else action

    def act_batch(
        self,
        observations: Any,
        rewards: Any = None,
        episode_starts: Any = None,
        action_masks: Any = None,
        *,
        resets: Any = None,
        deterministic: bool | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """Choose actions ``(B, ...)`` for the next observations of B envs, each with a memory of its own.

        Args:
            observations: Leaves ``(B, ...)``.
            rewards: ``(B,)``; must be given as in ``act``.
            episode_starts: ``(B,)`` bool; None for nowhere but where memory begins.
            action_masks: ``(B, M)``.
            resets: ``(B,)`` bool: which memories are emptied before this step.
            deterministic: As in ``act``.
            rng: As in ``act``.

        Raises:
            ValueError: As in ``act``, or if B is another than since ``reset``.
        """
        parts = read_observations(observations, self._leaves, batched=True)
        rows = len(next(iter(parts.values())))
        if action_masks is None and isinstance(observations, dict):
            action_masks = observations.get(MASK)
        self._refuse_missing(rewards)
        numbers = np.zeros(rows) if rewards is None else np.asarray(rewards, dtype=np.float64)
        starts = np.zeros(rows, dtype=bool) if episode_starts is None else np.asarray(episode_starts, dtype=bool)
        return self._step(parts, numbers, starts, resets, action_masks, deterministic, rng)

    def _refuse_missing(self, rewards: Any) -> None:
        if rewards is None and "previous_reward" in self._inputs and self._fed:
            raise ValueError(
                "This policy was trained to see the reward of its action before, and none is given: "
                "act(observation, reward)."
            )

    def _step(
        self,
        parts: dict[str, Array],
        rewards: Array,
        starts: Array,
        resets: Any,
        masks: Any,
        deterministic: bool | None,
        rng: np.random.Generator | None,
    ) -> Array:
        rows = len(next(iter(parts.values())))
        begins = not self._fed
        fed = self._zeros(rows) if begins else self._fed
        if len(next(iter(fed.values()), parts[self._leaves[0]["name"]])) != rows:
            raise ValueError(f"There are {rows} observations, but the memory is of another number; call reset first.")
        if rewards.shape != (rows,) or starts.shape != (rows,):
            raise ValueError(f"Rewards {rewards.shape} and episode starts {starts.shape} must be ({rows},).")
        if not np.isfinite(rewards).all():
            raise ValueError(f"The reward is {rewards[~np.isfinite(rewards)][0]}; it must be a finite number.")
        firsts = np.full(rows, begins) if resets is None or begins else np.asarray(resets, dtype=bool)
        mask = self._inputs.get("action_mask")
        allowed = read_masks(masks, None if mask is None else mask["shape"][1], rows)
        likeliest = self.description["deterministic"] if deterministic is None else deterministic
        noise = self._noise(rows, likeliest, self._rng if rng is None else rng)
        given = {"reset": firsts, "previous_reward": rewards, "episode_start": starts | firsts, "noise": noise}
        given |= {} if allowed is None else {"action_mask": allowed}
        given = {
            name: array.astype(self._inputs[name]["dtype"]) for name, array in given.items() if name in self._inputs
        }
        outputs = run_session(self._session, {**parts, **fed, **given})
        self._fed = {name: outputs[output] for name, output in self.description["feedback"].items()}
        self._fed["reset"] = np.zeros(rows, dtype=bool)  # So that memory has begun, whatever is fed back.
        self._last = {**outputs, **given}
        return outputs["action"]

    def _zeros(self, rows: int) -> dict[str, Array]:
        """Return what is fed to the first step: it is reset, so any numbers would do."""
        leaves = [self._inputs[name] for name in self.description["feedback"]]
        return {leaf["name"]: np.zeros((rows, *leaf["shape"][1:]), leaf["dtype"]) for leaf in leaves}

    def _noise(self, rows: int, likeliest: bool, rng: np.random.Generator) -> Array:
        shape = (rows, *self._inputs["noise"]["shape"][1:])
        if likeliest:
            return np.zeros(shape)
        kind = self.description["distribution"]["noise"]
        return np.asarray({"gumbel": rng.gumbel, "logistic": rng.logistic, "normal": rng.normal}[kind](size=shape))

    @property
    def value(self) -> Any:
        """The return that the policy expects from its last observation on: a float, or ``(B,)`` of a batch."""
        values = self._output("value")
        return float(values[0]) if len(values) == 1 else values

    @property
    def action_probabilities(self) -> Any:
        """Probabilities of the values of an action at the last observation, ``(n,)`` or of a batch ``(B, n)``.

        They are a list with one array a choice for MultiDiscrete, and those of 1 for MultiBinary.

        Raises:
            ValueError: If actions are numbers, which have densities, or nothing was seen yet.
        """
        logits, kind = self._output("parameters").astype(np.float64), self.description["distribution"]["kind"]
        if kind == "gaussian":
            raise ValueError("Actions are numbers: they have a mean and a deviation, but no probabilities.")
        if kind == "bernoulli":
            found = [1 / (1 + np.exp(-logits))]
        else:
            logits = np.where(self._last["action_mask"], logits, -1e9)
            splits = np.cumsum(self.description["distribution"]["sizes"])[:-1]
            found = [_softmax(one) for one in np.split(logits, splits, axis=-1)]
        found = [one[0] if len(one) == 1 else one for one in found]
        return found if kind == "multicategorical" else found[0]

    def _output(self, name: str) -> Array:
        if not self._last:
            raise ValueError("Nothing was seen since the reset: act first.")
        return self._last[name]

    def state_dict(self) -> dict[str, Array]:
        """Return the memory as arrays by name; empty where it has seen nothing."""
        return {name: array.copy() for name, array in self._fed.items()}

    def load_state_dict(self, values: Mapping[str, Array]) -> None:
        """Load what ``state_dict`` returned.

        Raises:
            ValueError: If it is of another policy.
        """
        wanted = {*self.description["feedback"], "reset"}
        if values and (
            set(values) != wanted
            or any(list(array.shape[1:]) != self._inputs[name]["shape"][1:] for name, array in values.items())
        ):
            raise ValueError(f"The memory is of another policy: it holds {sorted(values)}, not {sorted(wanted)}.")
        self.reset()
        self._fed = {name: np.array(array) for name, array in values.items()}


def _softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))
