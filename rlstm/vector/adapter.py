"""One form for what vector envs return: ``VectorEnvs`` without Gymnasium's shapes of ``infos``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import ACTION_MASK_KEY, BoolArray, FloatArray
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.trees import Tree, tree_leaves
from rlstm.vector.infos import final_rows, label_errors_said, regrets_said, said_by_envs, successes_said, targets_said
from rlstm.vector.sub_env import mask_sizes
from rlstm.vector.workers import WorkerFailure

_NOBODY: npt.NDArray[np.intp] = np.zeros(0, dtype=np.intp)
_NOTHING_SAID: FloatArray = np.zeros(0)


class EnvStep(NamedTuple):
    """What all lanes return from a reset or a step. Rows of arrays are lanes.

    Observations may be arrays that the envs write their next ones into; all else is this step's own.
    """

    observations: Tree  # (B, ...) after any autoreset
    rewards: FloatArray  # (B,)
    terminated: BoolArray  # (B,)
    truncated: BoolArray  # (B,)
    episode_ends: BoolArray  # (B,) terminated or truncated
    trial_ends: BoolArray  # (B,) it was the last episode of its trial; every episode where there are no trials
    action_masks: BoolArray | None  # (B, M) for the observation
    finished: npt.NDArray[np.intp]  # (N,) lanes whose episode ended with this step
    final_observations: Tree  # (N, ...) their last observations, or None where N is 0
    successes: FloatArray  # (N,) 1 or 0, NaN where the env doesn't say
    regrets: FloatArray | None = None  # (B,) info["regret"] of the step, NaN where not given; None: in no lane
    targets: npt.NDArray[Any] | None = None  # (B, *action shape) info["target"] of the step; None: in no lane
    has_target: BoolArray | None = None  # (B,) where there is one
    label_errors: FloatArray | None = None  # (N, 2) errors in their strings, and labels of these; None: no strings
    logged: FloatArray | None = None  # (B, K) the numbers of info that are logged, NaN where not given; None: none are


class SteppedEnvs(Protocol):
    """All that playing needs of lanes."""

    num_envs: int
    log_info: tuple[str, ...]  # Names of the numbers in ``EnvStep.logged``.

    def reset(self, seeds: Sequence[int]) -> EnvStep:
        """Reset every lane with a seed of its own."""

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        """Step every lane; a lane whose episode ends is reset in the same step."""


class VectorEnvs:
    """A vector env in ``AutoresetMode.SAME_STEP`` whose resets and steps come as ``EnvStep``."""

    def __init__(
        self,
        envs: gym.vector.VectorEnv[Any, Any, Any],
        kind: str,
        description: str,
        state_fault: str | None = None,
        log_info: Sequence[str] = (),
    ) -> None:
        self.envs = envs
        self.log_info = tuple(log_info)  # Keys of info that are logged.
        self.state_fault = state_fault  # Why states can't be stored though there are methods for it.
        self.kind = kind  # native, sync or async
        self.description = description  # What was chosen, for the user.
        self.num_envs = envs.num_envs
        self.observation_space = envs.single_observation_space
        self.action_space = envs.single_action_space
        self._mask_sizes = mask_sizes(self.action_space)
        self._steps = 0
        self._gives_masks = False  # Known after the reset.

    def reset(self, seeds: Sequence[int], options: dict[str, Any] | None = None) -> EnvStep:
        """Reset every lane with a seed of its own; all get the same options."""
        observations, infos = self._guard(self.envs.reset, seed=list(seeds), options=options)
        nothing = np.zeros(self.num_envs, dtype=bool)
        return self._pack(observations, np.zeros(self.num_envs), nothing, nothing.copy(), infos, at_reset=True)

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        """Step every lane; a lane whose episode ends is reset in the same step.

        Raises:
            EnvironmentFailure: If an env raises, or returns something that is not a number, naming lane and step.
        """
        self._steps += 1
        observations, rewards, terminated, truncated, infos = self._guard(self.envs.step, actions)
        return self._pack(observations, np.array(rewards, dtype=np.float64), terminated, truncated, infos)

    def draw_sequences(self, seeds: Sequence[int]) -> Any | None:
        """Return the episodes that a reset with ``seeds`` would begin, whole, where the env can draw them so.

        They are arrays ``inputs``, ``targets`` and ``valid``, (T, B, ...); after them the envs must be reset. None
        where what is seen depends on actions, or on a wrapper.
        """
        draw = getattr(type(self.envs), "draw_sequences", None)
        return None if draw is None else self._guard(draw, self.envs, seeds)

    def draw_labelled(self, seeds: Sequence[int]) -> Any | None:
        """Return them with their strings, ``labels`` (B, L), filled up with -1; None where there are no strings."""
        draw = getattr(type(self.envs), "draw_labelled", None)
        return None if draw is None else self._guard(draw, self.envs, seeds)

    def _guard(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except WorkerFailure as error:
            raise EnvironmentFailure(f"{error} at its step {self._steps}.") from error
        except EnvironmentFailure:
            raise
        except (Exception, SystemExit) as error:
            raise EnvironmentFailure(
                f"The env raised at step {self._steps} (counted for each env): {type(error).__name__}: {error}"
            ) from error

    def _pack(
        self,
        observations: Tree,
        rewards: FloatArray,
        terminated: BoolArray,
        truncated: BoolArray,
        infos: dict[str, Any],
        *,
        at_reset: bool = False,
    ) -> EnvStep:
        ends = terminated | truncated
        self._check(observations, rewards)
        finished, final_observations = _NOBODY, None
        if ends.any():
            finished = np.flatnonzero(ends)
            if "final_obs" not in infos:
                raise EnvironmentFailure("An episode ended, but the env's infos have no 'final_obs' (SAME_STEP mode).")
            final_observations = final_rows(infos["final_obs"], finished)
            self._check(final_observations, rewards[finished], finished)
        trial_starts = infos.get("trial_start")
        told = {} if at_reset else infos
        masked = bool(infos) or self._gives_masks or isinstance(observations, dict)
        return EnvStep(
            observations,
            rewards,
            np.array(terminated, dtype=bool),
            np.array(truncated, dtype=bool),
            ends,
            ends if trial_starts is None else ends & np.asarray(trial_starts, dtype=bool),
            self._masks(observations, infos, at_reset=at_reset) if masked else None,
            finished,
            final_observations,
            successes_said(infos, finished, self.num_envs) if len(finished) else _NOTHING_SAID,
            regrets_said(told, finished, self.num_envs) if told else None,
            *(targets_said(told, finished, self.num_envs) if told else (None, None)),
            label_errors_said(infos, finished, self.num_envs) if len(finished) else None,
            self._logged(told, finished) if told and self.log_info else None,
        )

    def _logged(self, infos: dict[str, Any], finished: npt.NDArray[np.intp]) -> FloatArray:
        """Return the numbers that are logged, ``(B, K)``: together from single envs, by name from batched ones."""
        final = infos.get("final_info", infos)
        if self.kind != "native":
            said = said_by_envs(infos, final, "logged", finished, self.num_envs)
            assert said is not None
            return said[0]
        logged = np.full((self.num_envs, len(self.log_info)), np.nan)
        for column, name in zip(logged.T, self.log_info, strict=True):
            said = said_by_envs(infos, final, name, finished, self.num_envs)
            if said is not None and said[0].ndim == 1:
                column[said[1]] = said[0][said[1]]
        return logged

    def _check(self, observations: Tree, rewards: FloatArray, lanes: npt.NDArray[np.intp] | None = None) -> None:
        """Refuse values that are not numbers before they reach memory, naming the lane."""
        if not _all_finite(rewards):
            self._refuse("reward", rewards, lanes)
        for leaf in (observations,) if isinstance(observations, np.ndarray) else tree_leaves(observations):
            if not _all_finite(leaf):
                self._refuse("observation", leaf, lanes)

    def _refuse(self, name: str, values: npt.NDArray[Any], lanes: npt.NDArray[np.intp] | None) -> NoReturn:
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))[0])
        lane = row if lanes is None else int(lanes[row])
        raise EnvironmentFailure(
            f"Env {lane} returned {'an' if name == 'observation' else 'a'} {name} that is not finite at its step "
            f"{self._steps}: {values[row]}.{_HOLD if name == 'observation' else ''}"
        )

    def _masks(self, observations: Tree, infos: dict[str, Any], *, at_reset: bool) -> BoolArray | None:
        """Return the masks for the observations; lanes that give none may do anything.

        Raises:
            EnvironmentFailure: If a mask has a wrong size, allows nothing, or comes where the reset gave none: a
                rollout has masks at every step or at none.
        """
        if isinstance(observations, dict) and ACTION_MASK_KEY in observations:
            masks, given = np.asarray(observations[ACTION_MASK_KEY]), np.ones(self.num_envs, dtype=bool)
        elif ACTION_MASK_KEY in infos:
            masks = np.asarray(infos[ACTION_MASK_KEY])
            given = np.broadcast_to(np.asarray(infos.get("_" + ACTION_MASK_KEY, True), dtype=bool), self.num_envs)
        else:
            self._gives_masks &= not at_reset
            return np.ones((self.num_envs, sum(self._mask_sizes)), dtype=bool) if self._gives_masks else None
        if not self._mask_sizes:
            raise EnvironmentFailure(
                f"The env gives an {ACTION_MASK_KEY}, but its actions are {self.action_space}, which can't be masked: "
                "leave it out, or make the actions Discrete or MultiDiscrete."
            )
        shape = (self.num_envs, sum(self._mask_sizes))
        place = f"{ACTION_MASK_KEY} at step {self._steps} of the envs"
        if masks.dtype == object or masks.size != shape[0] * shape[1]:
            raise EnvironmentFailure(
                f"The {place} must be an array of {shape[1]} booleans an env, for {self.action_space}."
            )
        self._gives_masks |= at_reset
        if not self._gives_masks:
            raise EnvironmentFailure(f"There is an {place}, but none was in the info of reset: give one there too.")
        masks = masks.astype(bool).reshape(shape) | ~given[:, None]
        for group in np.split(masks, np.cumsum(self._mask_sizes)[:-1], axis=1):
            if not group.any(axis=1).all():
                lane = int(np.flatnonzero(~group.any(axis=1))[0])
                raise EnvironmentFailure(f"The action mask of env {lane} at its step {self._steps} allows no action.")
        return masks

    def get_state(self) -> Tree | None:
        """Return the state of every lane, to go on from exactly here, or None where an env can't give it."""
        if self.state_fault is not None:
            return None
        if self.kind == "native":
            get_state = getattr(self.envs, "get_state", None)
            state = None if get_state is None else get_state()
            return None if state is None else {"native": state, "steps": self._steps}
        try:
            states = self.envs.call("get_lane_state")  # type: ignore[attr-defined]
        except WorkerFailure:  # What was learnt can be saved nevertheless; the next step tells what happened.
            return None
        return None if any(state is None for state in states) else {"lanes": list(states), "steps": self._steps}

    def set_state(self, state: Tree, seeds: Sequence[int]) -> None:
        """Go on from a state of ``get_state``. Envs are reset first, as Gymnasium demands before a step."""
        self._guard(self.envs.reset, seed=list(seeds))
        self._steps = state["steps"]
        if self.kind == "native":
            self.envs.set_state(state["native"])  # type: ignore[attr-defined]
        else:
            self._guard(self.envs.call, "set_lane_state", state["lanes"])  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the envs and end the workers."""
        self.envs.close()


_HOLD = " If a sensor may drop out, --env-wrappers hold repeats its last good value."


def _all_finite(values: npt.NDArray[Any]) -> bool:
    return values.dtype.kind != "f" or bool(np.logical_and.reduce(np.isfinite(values), axis=None))
