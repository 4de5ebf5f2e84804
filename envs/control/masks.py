"""Gymnasium's MuJoCo locomotion and pendulum tasks, seen by positions only or by velocities only.

`MASKS` is the table, one row for each registered id. With positions only the velocities have to be told from the last
observations; with velocities only they have to be added up for as long as the episode lasts, which is harder.

These are single environments of Gymnasium, simulated one by one: they are in Gymnasium's registry, but not among the
batched tasks of `rlstm.envs.ENVS`. They are registered where the package `mujoco` is installed, which is looked up
without importing it.

Source of the idea: T. Ni, B. Eysenbach, R. Salakhutdinov, "Recurrent Model-Free RL Can Be a Strong Baseline for Many
POMDPs", ICML 2022, whose PyBullet tasks are others: their returns can't be compared with those here.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from rlstm.envs.wrappers.adapters import TransformedEnv
from rlstm.envs.wrappers.views import MaskBox


@dataclass(frozen=True)
class Mask:
    """What remains of an observation.

    Attributes:
        id: For `gymnasium.make`.
        base: Id of the environment that is masked.
        keep: Which of its observed numbers are seen.
        base_size: How many numbers it observes.
        arguments: Of the base environment, needed for this size.
    """

    id: str
    base: str
    keep: range
    base_size: int
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _both(name: str, positions: range, velocities: range, base_size: int, **arguments: Any) -> tuple[Mask, Mask]:
    """Return the two rows of a base environment: rlstm/NamePositionOnly-v0 and rlstm/NameVelocityOnly-v0."""
    return (
        Mask(f"rlstm/{name}PositionOnly-v0", f"{name}-v5", positions, base_size, arguments),
        Mask(f"rlstm/{name}VelocityOnly-v0", f"{name}-v5", velocities, base_size, arguments),
    )


_ROWS = (
    *_both("Hopper", range(5), range(5, 11), 11),
    *_both("Walker2d", range(8), range(8, 17), 17),
    *_both("HalfCheetah", range(8), range(8, 17), 17),
    # Contact forces are neither positions nor velocities.
    *_both("Ant", range(13), range(13, 27), 27, include_cfrc_ext_in_observation=False),
    *_both("InvertedPendulum", range(2), range(2, 4), 4),
    # The last number, a constraint force, is in neither.
    *_both("InvertedDoublePendulum", range(5), range(5, 8), 9),
)

MASKS: dict[str, Mask] = {row.id: row for row in _ROWS}
"""Every masked environment, by its id."""


def make_masked(base: str, keep: Sequence[int], **arguments: Any) -> gym.Env[Any, Any]:
    """Make the base environment and hide all but `keep`.

    Args:
        base: Id of an environment with a Box observation of one axis.
        keep: Indices of the numbers that are seen.
        **arguments: Of the base environment, such as `render_mode`.
    """
    # The wrappers of the base, its step limit among them, come from the registration of the masked one instead.
    env = gym.make(base, disable_env_checker=True, **arguments).unwrapped
    return TransformedEnv(env, MaskBox, keep=list(keep))


def register_masks() -> None:
    """Register the rows of `MASKS` with Gymnasium if mujoco is installed; those already registered are left alone."""
    if importlib.util.find_spec("mujoco") is None:
        return
    for row in MASKS.values():
        if row.id not in gym.registry:
            gym.register(
                id=row.id,
                entry_point="rlstm.envs.control.masks:make_masked",
                max_episode_steps=gym.spec(row.base).max_episode_steps,
                kwargs={"base": row.base, "keep": list(row.keep), **row.arguments},
            )
