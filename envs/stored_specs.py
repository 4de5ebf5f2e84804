"""Env specs that a run or a demonstration has stored: `present_spec` gives them the entry points of this version.

A spec stores where its env and wrappers are imported from. Those of this package may move; what they are called, the id
of an env and the name of a wrapper, stays.
"""

import copy

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from rlstm.envs.wrappers.table import WRAPPERS

OURS = "rlstm.envs."


def present_spec(stored: EnvSpec) -> EnvSpec:
    """Return a stored spec with its own arguments, and with the present entry points of what this package offers.

    The env and the wrappers of another package stay as they are stored.
    """
    spec = copy.copy(stored)
    registered = gym.registry.get(stored.id)
    if registered is not None and _is_ours(registered.entry_point) and _is_ours(stored.entry_point):
        spec.entry_point, spec.vector_entry_point = registered.entry_point, registered.vector_entry_point
        spec.kwargs = {**stored.kwargs, **{key: value for key, value in registered.kwargs.items() if key == "task"}}
    spec.additional_wrappers = tuple(_present_wrapper(wrapper) for wrapper in stored.additional_wrappers)
    return spec


def _present_wrapper(stored: WrapperSpec) -> WrapperSpec:
    row = WRAPPERS.get(stored.name)
    if row is None or not _is_ours(stored.entry_point):
        return stored
    return WrapperSpec(stored.name, row.entry_point, {**(stored.kwargs or {}), "transform": row.transform_name})


def _is_ours(entry_point: object) -> bool:
    return isinstance(entry_point, str) and entry_point.startswith(OURS)
