"""One form for what vector envs return: ``VectorEnvs`` without Gymnasium's shapes of ``infos``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import ACTION_MASK_KEY, BoolArray
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.trees import Tree, tree_leaves, tree_map
from rlstm.vector.sub_env import mask_sizes
from rlstm.vector.workers import WorkerFailure

FloatArray = npt.NDArray[np.float64]

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

    def _guard(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except WorkerFailure as error:
            raise EnvironmentFailure(f"{error} at its step {self._steps}.") from error
        except EnvironmentFailure:
            raise
        except (Exception, SystemExit) as error:
            raise EnvironmentFailure(
                f"The env raised at step {self._steps} (counted for each lane): {type(error).__name__}: {error}"
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
            final_observations = _final_rows(infos["final_obs"], finished)
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
            _successes(infos, finished, self.num_envs) if len(finished) else _NOTHING_SAID,
            _regrets(told, finished, self.num_envs) if told else None,
            *(_targets(told, finished, self.num_envs) if told else (None, None)),
            self._logged(told, finished) if told and self.log_info else None,
        )

    def _logged(self, infos: dict[str, Any], finished: npt.NDArray[np.intp]) -> FloatArray:
        """Return the numbers that are logged, ``(B, K)``: together from single envs, by name from batched ones."""
        final = infos.get("final_info", infos)
        if self.kind != "native":
            said = _said(infos, final, "logged", finished, self.num_envs)
            assert said is not None
            return said[0]
        logged = np.full((self.num_envs, len(self.log_info)), np.nan)
        for column, name in zip(logged.T, self.log_info, strict=True):
            said = _said(infos, final, name, finished, self.num_envs)
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


def _final_rows(final: Any, finished: npt.NDArray[np.intp]) -> Tree:
    """Return the last observations of the finished lanes as arrays ``(N, ...)``.

    Gymnasium's vector envs give an object array of single observations, native ones may give one full array.
    """
    if isinstance(final, np.ndarray) and final.dtype == object:
        rows = [final[lane] for lane in finished]
        return tree_map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), rows[0], *rows[1:])
    return tree_map(lambda leaf: np.asarray(leaf)[finished], final)


def _said(
    infos: dict[str, Any], final: Any, name: str, finished: npt.NDArray[np.intp], num_envs: int
) -> tuple[npt.NDArray[Any], BoolArray] | None:
    """Return the numbers ``(B, ...)`` that this step's infos give under a name, and which lanes gave one, ``(B,)``.

    What a finished lane's last step said stands in ``final``: beside it is already the info of the reset. None where no
    lane says anything, or what is said are not numbers.
    """
    if name not in infos and not (isinstance(final, dict) and name in final):
        return None
    sources = [one for one in ((infos, False), (final, True)) if isinstance(one[0], dict) and name in one[0]]
    ends = np.zeros(num_envs, dtype=bool)
    ends[finished] = True
    found = [(source, ends if is_final else ~ends) for source, is_final in sources]
    found = [(source, lanes) for source, lanes in found if lanes.any()]
    said = [np.broadcast_to(np.asarray(source.get(f"_{name}", True), dtype=bool), num_envs) for source, _ in found]
    every = [_stacked(np.asarray(source[name]), one) for (source, _), one in zip(found, said, strict=True)]
    if not found or any(values.dtype.kind not in "fiub" or values.shape[:1] != (num_envs,) for values in every):
        return None
    merged, given = np.zeros(every[0].shape, np.result_type(*every)), np.zeros(num_envs, dtype=bool)
    for (_, lanes), values, one in zip(found, every, said, strict=True):
        merged[lanes], given[lanes] = values[lanes], one[lanes]
    return merged, given


def _successes(infos: dict[str, Any], finished: npt.NDArray[np.intp], num_envs: int) -> FloatArray:
    """Return ``is_success`` of the finished lanes from the last step's info, NaN where it is not given."""
    final = infos.get("final_info", infos)
    said = final.get("is_success") if isinstance(final, dict) else None
    if isinstance(said, np.ndarray) and said.dtype.kind in "fiub" and said.shape == (num_envs,):  # As envs of ours do.
        given = np.broadcast_to(np.asarray(final.get("_is_success", True), dtype=bool), num_envs)
        return np.where(given[finished], said[finished].astype(np.float64), np.nan)
    every = _said({}, final, "is_success", finished, num_envs)
    if every is None:
        return np.full(len(finished), np.nan)
    return np.where(every[1], every[0].astype(np.float64), np.nan)[finished]


def _regrets(infos: dict[str, Any], finished: npt.NDArray[np.intp], num_envs: int) -> FloatArray | None:
    """Return ``info["regret"]`` of this step for all lanes, NaN where it is not given; None where no lane gives it."""
    said = _said(infos, infos.get("final_info", infos), "regret", finished, num_envs)
    if said is None or said[0].ndim != 1:
        return None
    regrets = np.where(said[1], said[0].astype(np.float64), np.nan)
    return None if np.isnan(regrets).all() else regrets


def _targets(
    infos: dict[str, Any], finished: npt.NDArray[np.intp], num_envs: int
) -> tuple[npt.NDArray[Any] | None, BoolArray | None]:
    """Return what a teacher would have answered to this step's observations, (B, ...), and in which lanes it says so.

    A class below 0 or a NaN says that nothing is asked; a target that isn't there is 0.
    """
    said = _said(infos, infos.get("final_info"), "target", finished, num_envs)
    if said is None:
        return None, None
    targets, given = said
    flat = targets.reshape(num_envs, -1)
    given &= ~np.isnan(flat).any(axis=1) if flat.dtype.kind == "f" else (flat >= 0).all(axis=1)
    targets[~given] = 0
    return (targets, given) if given.any() else (None, None)


def _stacked(values: npt.NDArray[Any], said: BoolArray) -> npt.NDArray[Any]:
    """Return what the lanes said as one array if they said lists, which come as objects, all of one shape."""
    if values.dtype.kind != "O" or values.shape != said.shape or not said.any():
        return values
    rows = [np.asarray(row) for row in values[said]]
    if any(row.shape != rows[0].shape or row.dtype.kind not in "fiub" for row in rows):
        return values
    stacked = np.zeros((len(values), *rows[0].shape), dtype=np.result_type(*rows))
    stacked[said] = rows
    return stacked
