"""The two adapters of a `BatchedTask` to Gymnasium: `SingleEnv` and `BatchedVectorEnv`.

The rules are in the task; an adapter seeds it, checks actions, counts steps against the limit, and resets. Both do the
same in the same order, so lane i of the vector environment gives exactly what a single environment with lane i's seed
gives.

    env = SingleEnv(TMaze, corridor_length=50)
    envs = BatchedVectorEnv(TMaze, 64, corridor_length=50)

A row in `envs/base/registration.py` with "module:Task" makes a registered environment.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, ReturnReference, Transition
from rlstm.envs.base.checks import (
    RENDER_MODES,
    State,
    check_actions,
    check_integer,
    check_state,
    check_trials,
    checked_render_mode,
    has_value,
    lane_seeds,
    load_class,
    read_option,
    require_reset,
)
from rlstm.envs.base.labelling import LabelledSequences, LabellingTask
from rlstm.envs.base.teacher import Sequences, TeacherTask

# What gymnasium.make asks the class for; an instance says the rest (`BatchedTask.metadata`).
CLASS_METADATA: dict[str, Any] = {"render_modes": list(RENDER_MODES)}

__all__ = ["BatchedTask", "BatchedVectorEnv", "ReturnReference", "SingleEnv", "Transition"]


def make_task(task: str | type[BatchedTask], num_envs: int, arguments: dict[str, Any]) -> BatchedTask:
    """Return the task for a batch of `num_envs` lanes.

    Raises:
        ValueError: If `task` is no task, or its class lacks something that every task declares.
    """
    made: BatchedTask = load_class("task", task, BatchedTask)(num_envs, **arguments)
    for name in ("memory", "memory_length", "optimal_return", "memoryless_return", "source"):
        if not hasattr(made, name):
            raise ValueError(f"{type(made).__name__} has no {name}: declare it in the class, see BatchedTask.")
    return made


class SingleEnv(gym.Env[Any, Any]):
    """One lane of a task as a Gymnasium environment.

    `reset(options={"new_task": False})` keeps the task drawn before, if `metadata["supports_new_task"]`; the first
    reset always draws one. `reset(options={"teacher_forcing": True})` begins a teacher-forced episode, if
    `metadata["supports_teacher_forcing"]`; elsewhere it means nothing. `info["is_success"]` is in every step's info,
    not only the last, so that it is also there when a wrapper from outside, such as TimeLimit, ends the episode. What
    is NaN, because it means nothing at a step, is not in that step's info.

    Args:
        task: The task, or "module:Task".
        render_mode: None, "ansi" (text) or "rgb_array".
        **task_arguments: Arguments of the task.

    Attributes:
        task: The task with its one lane.
        optimal_return, memoryless_return: The best that any policy, and that any policy without memory, can do.
    """

    metadata = CLASS_METADATA

    def __init__(self, task: str | type[BatchedTask], render_mode: str | None = None, **task_arguments: Any) -> None:
        self.render_mode = checked_render_mode(render_mode)
        self.task = make_task(task, 1, task_arguments)
        self.observation_space = self.task.observation_space
        self.action_space = self.task.action_space
        self.metadata = self.task.metadata
        self.optimal_return, self.memoryless_return = self.task.optimal_return, self.task.memoryless_return
        self._task_drawn = False
        self._episode_over = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; without a seed the random stream goes on, or begins anywhere if there is none yet.

        Raises:
            ValueError: The seed is not an integer >= 0, or `options["new_task"]` is not a boolean.
        """
        super().reset(seed=seed)
        new_task = read_option(options, "new_task", True) or not self._task_drawn
        self.task.teacher_forcing = read_option(options, "teacher_forcing", False)
        self.task.random.seed_lanes([seed], self.np_random)
        self.task.reset(np.zeros(1, dtype=np.int64), np.array([new_task]))
        self._task_drawn, self._episode_over = True, False
        return self.task.observe()[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Raises:
            ResetNeeded: There is no episode, or it is over.
            ValueError: The action is outside the action space.
        """
        if self._episode_over:
            raise ResetNeeded(
                "There is no running episode: call reset() before step(), first and after each episode's end."
            )
        actions = check_actions(self.action_space, np.asarray(action)[None], 1)
        transition = self.task.step(actions)
        terminated = bool(transition.terminated[0])
        truncated = int(self.task.elapsed_steps[0]) >= self.task.step_limit
        self._episode_over = terminated or truncated
        info = {
            name: values[0].item() if values.ndim == 1 else values[0]
            for name, values in transition.info.items()
            if has_value(values)[0]
        }
        return self.task.observe()[0], float(transition.rewards[0]), terminated, truncated, info

    def render(self) -> Any:
        """Render the present state as text or as an image (height, width, 3), by `render_mode`.

        Raises:
            ResetNeeded: There was no reset yet.
            ValueError: The environment was made without a render mode.
        """
        require_reset(self._task_drawn, "render")
        return self.task.frames(self.render_mode)[0]

    def get_state(self) -> State:
        """Return all that the environment's future depends on, for an exact resume.

        Raises:
            ResetNeeded: Nothing was reset yet, so there is no state.
        """
        require_reset(self._task_drawn, "get_state")
        return {**self.task.get_state(), "episode_over": np.array([self._episode_over])}

    def set_state(self, state: State) -> None:
        """Go on from a state of `get_state`, also in a new instance that was never reset.

        Raises:
            ValueError: The state is not one of this kind of environment.
        """
        check_state(state, {**self.task.get_state(), "episode_over": np.zeros(1, dtype=np.bool_)})
        self.task.set_state({name: array for name, array in state.items() if name != "episode_over"})
        self._task_drawn, self._episode_over = True, bool(state["episode_over"][0])


class BatchedVectorEnv(VectorEnv[Any, Any, Any]):
    """All lanes of a task as a vector environment with SAME_STEP autoreset.

    On a step on which some lane's episode ends, the returned observation of that lane is the first of its next
    episode, and

    - `infos["final_obs"]`: (B, ...) last observations, valid where `infos["_final_obs"]`;
    - `infos["final_info"]`: a dict of (B, ...) arrays, e.g. "is_success", valid where "_is_success" in the same dict;
    - `infos[name]` for the task's `step_info`, e.g. "target": (B, ...), of the step and valid where `infos["_target"]`,
      which is neither where it is NaN nor where an episode ended: there it stands in `infos["final_info"]`;
    - `infos["trial_start"]`: (B,) where the reset began a new trial, valid where `infos["_trial_start"]`; also given by
      `reset`. Only with `episodes_per_trial`.

    Args:
        task: The task, or "module:Task".
        num_envs: B.
        max_episode_steps: Truncate after so many steps, if the task's own limit doesn't come first.
        episodes_per_trial: K. A lane's first reset and every reset after K episodes draw a new task, the others keep
            it. None: every reset draws a new task.
        render_mode: None, "ansi" (text) or "rgb_array".
        **task_arguments: Arguments of the task.

    Attributes:
        optimal_return, memoryless_return: As of `SingleEnv`.

    Raises:
        ValueError: An argument is impossible, or trials are asked of a task that can't keep its task.
    """

    def __init__(
        self,
        task: str | type[BatchedTask],
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        episodes_per_trial: int | None = None,
        render_mode: str | None = None,
        **task_arguments: Any,
    ) -> None:
        self.render_mode = checked_render_mode(render_mode)
        self.task = make_task(task, num_envs, task_arguments)
        self._step_limit = self.task.step_limit
        if max_episode_steps is not None:
            check_integer("max_episode_steps", max_episode_steps, 1)
            self._step_limit = min(self._step_limit, max_episode_steps)
        if episodes_per_trial is not None:
            check_trials(type(self.task).__name__, self.task.supports_new_task, episodes_per_trial)
        self.num_envs = num_envs
        self.episodes_per_trial = episodes_per_trial
        self.single_observation_space = self.task.observation_space
        self.single_action_space = self.task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.optimal_return, self.memoryless_return = self.task.optimal_return, self.task.memoryless_return
        self.metadata = {**self.task.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self._episodes_in_trial: IntArray = np.zeros(num_envs, dtype=np.int64)
        self._was_reset = False

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode in every lane, and a trial if there are trials.

        Args:
            seed: An integer s gives the lanes s, s + 1, ...; a sequence has one entry per lane; None, or an entry
                None, lets a lane's random stream go on, or begin anywhere if it has none yet.
            options: `{"new_task": False}` keeps the lanes' tasks; `{"teacher_forcing": True}` makes the episodes until
                the next call teacher-forced, where `metadata["supports_teacher_forcing"]`.

        Raises:
            ValueError: Seeds or options are impossible.
        """
        if isinstance(seed, int):
            super().reset(seed=seed)
        new_task = read_option(options, "new_task", True)
        self.task.teacher_forcing = read_option(options, "teacher_forcing", False)
        if self.episodes_per_trial is not None and not new_task:
            raise ValueError(
                "options new_task=False contradicts episodes_per_trial: a reset() of all lanes begins a trial."
            )
        if options is not None and "reset_mask" in options:
            raise ValueError(
                "options reset_mask isn't supported: lanes are reset automatically, on the step they end on."
            )
        self.task.random.seed_lanes(lane_seeds(seed, self.num_envs), self.np_random)
        every_lane = np.arange(self.num_envs)
        self.task.reset(every_lane, np.full(self.num_envs, new_task or not self._was_reset))
        self._episodes_in_trial[:] = 0
        self._was_reset = True
        everywhere = np.ones(self.num_envs, dtype=np.bool_)
        infos = (
            {} if self.episodes_per_trial is None else {"trial_start": everywhere, "_trial_start": everywhere.copy()}
        )
        return self.task.observe(), infos

    def step(self, actions: Any) -> tuple[Array, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Take one step in every lane and reset the lanes whose episode ended.

        Raises:
            ResetNeeded: `reset` wasn't called yet.
            ValueError: A lane's action is outside the action space.
        """
        require_reset(self._was_reset, "step")
        task = self.task
        transition = task.step(check_actions(self.single_action_space, actions, self.num_envs))
        truncated = task.elapsed_steps >= self._step_limit
        observations = task.observe()
        finished = transition.terminated | truncated
        infos: dict[str, Any] = {}
        for name in task.step_info:
            infos[name], infos[f"_{name}"] = transition.info[name], ~finished & has_value(transition.info[name])
        if finished.any():
            infos.update(self._final_infos(finished, observations, transition))
            self._reset_lanes(finished, infos)
            observations = task.observe()
        return observations, transition.rewards, transition.terminated, truncated, infos

    def _final_infos(self, finished: BoolArray, observations: Array, transition: Transition) -> dict[str, Any]:
        final_info: dict[str, Array] = {}
        for name, values in transition.info.items():
            final_info[name], final_info[f"_{name}"] = values, finished & has_value(values)
        return {
            "final_obs": observations,
            "_final_obs": finished,
            "final_info": final_info,
            "_final_info": finished.copy(),
        }

    def _reset_lanes(self, finished: BoolArray, infos: dict[str, Any]) -> None:
        rows = np.flatnonzero(finished)
        if self.episodes_per_trial is None:
            self.task.reset(rows, np.ones(rows.size, dtype=np.bool_))
            return
        self._episodes_in_trial[rows] += 1
        trial_start = self._episodes_in_trial >= self.episodes_per_trial
        self._episodes_in_trial[trial_start] = 0
        self.task.reset(rows, trial_start[rows])
        infos["trial_start"], infos["_trial_start"] = trial_start, finished.copy()

    def draw_sequences(self, seeds: Sequence[int]) -> Sequences | None:
        """Return the episodes that a reset with `seeds` would begin, whole, with what should have been answered.

        None if the task has no teacher, or trials of several episodes. The next call must be a `reset`.
        """
        if not isinstance(self.task, TeacherTask) or self.episodes_per_trial is not None:
            return None
        self._was_reset = False
        return self.task.draw_sequences(seeds, self._step_limit)

    def draw_labelled(self, seeds: Sequence[int]) -> LabelledSequences | None:
        """Return the episodes that a reset with `seeds` would begin, whole, with their strings of labels.

        None if the task has no strings. The next call must be a `reset`.
        """
        if not isinstance(self.task, LabellingTask) or self.episodes_per_trial is not None:
            return None
        self._was_reset = False
        return self.task.draw_labelled(seeds, self._step_limit)

    def render(self) -> tuple[Any, ...]:
        """Render one frame per lane: text or an image (height, width, 3), by `render_mode`.

        Raises:
            ResetNeeded: `reset` wasn't called yet.
            ValueError: The environment was made without a render mode.
        """
        require_reset(self._was_reset, "render")
        return self.task.frames(self.render_mode)

    def get_state(self) -> State:
        """Return all that the lanes' future depends on, for an exact resume.

        Raises:
            ResetNeeded: `reset` wasn't called yet, so there is no state.
        """
        require_reset(self._was_reset, "get_state")
        return {**self.task.get_state(), "episodes_in_trial": self._episodes_in_trial.copy()}

    def set_state(self, state: State) -> None:
        """Go on from a state of `get_state`, also in a new instance that was never reset.

        Raises:
            ValueError: The state is not one of this kind of environment.
        """
        check_state(state, {**self.task.get_state(), "episodes_in_trial": self._episodes_in_trial})
        self.task.set_state({name: array for name, array in state.items() if name != "episodes_in_trial"})
        self._episodes_in_trial[:] = state["episodes_in_trial"]
        self._was_reset = True
