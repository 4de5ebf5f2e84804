"""Which masks and infos an env gives, and what is mistaken for one: a check of ``checks``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from rlstm.api.env_checks.findings import Finding, unfit
from rlstm.core.arrays import ACTION_MASK_KEY
from rlstm.vector.sub_env import mask_sizes, read_target

_STEPS = 100
_LIKE_A_MASK = frozenset(
    f"{one}{more}"
    for one in (
        "action_mask",
        "actions_mask",
        "mask",
        "valid_action",
        "legal_action",
        "available_action",
        "avail_action",
    )
    for more in ("", "s", "_mask", "s_mask")
) - {ACTION_MASK_KEY} | {"legal_moves", "valid_moves", "invalid_action_masks", "actionMask"}
_LIKE_A_SUCCESS = frozenset({"success", "is_sucess", "is_succes", "succeeded", "solved", "isSuccess", "is_solved"})


@dataclass
class _Said:
    """What the infos and observations of a single env have said."""

    steps: int = 0
    names: set[str] = dataclasses.field(default_factory=set)
    masks: int = 0
    allowed: float = 0.0  # Choices, summed over the masks.
    choices: int = 0
    answers: int = 0  # Targets that are actions.


def check_infos(env: gym.Env[Any, Any]) -> list[Finding]:
    """Play a single env at random, and tell which masks and infos it gives, and what is mistaken for one."""
    said = _Said()
    try:
        _listen(env, said)
    except Exception:  # The play of all envs reports a step that fails.
        said.steps = max(said.steps, 1)
    return [_masks(env, said), _read_names(said)]


def _listen(env: gym.Env[Any, Any], said: _Said) -> None:
    rng, sizes = np.random.default_rng(0), mask_sizes(env.action_space)
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    for _ in range(_STEPS):
        mask = info.get(ACTION_MASK_KEY)
        if isinstance(observation, dict):
            mask = observation.get(ACTION_MASK_KEY, mask)
        action = env.action_space.sample()
        if mask is not None and sizes and np.size(mask) == sum(sizes):
            allowed = np.asarray(mask, dtype=bool).reshape(-1)
            said.masks, said.allowed, said.choices = said.masks + 1, said.allowed + allowed.sum(), sum(sizes)
            parts = np.split(allowed, np.cumsum(sizes)[:-1])
            picked = [int(rng.choice(np.flatnonzero(part))) for part in parts if part.any()]
            if len(picked) == len(sizes):
                start, shape = np.asarray(env.action_space.start), env.action_space.shape  # type: ignore[attr-defined]
                action = np.reshape(picked, shape or ()) + start
        observation, _, terminated, truncated, info = env.step(action)
        said.steps += 1
        said.names.update(name for name, value in info.items() if value is not None)
        said.answers += read_target(info["target"], env.action_space) is not None if "target" in info else 0
        if terminated or truncated:
            observation, info = env.reset()
            said.names.update(info)


def _masks(env: gym.Env[Any, Any], said: _Said) -> Finding:
    """Say whether a mask is seen, how much it allows, and what looks like one."""
    advice = f"The key is info['{ACTION_MASK_KEY}'], or '{ACTION_MASK_KEY}' in a Dict observation."
    if said.masks:
        text = f"seen, allows {said.allowed / said.masks:.1f} of {said.choices} choices on average"
        if said.masks < said.steps:
            text = f"{text}; given at {said.masks} of {said.steps} steps, elsewhere everything is allowed"
            return Finding("masks", "remark", text, "Give one at every step, if actions are never free.")
        if said.allowed == said.masks * said.choices:
            return Finding("masks", "remark", f"{text}: it forbade nothing in {said.steps} steps", "Is it meant so?")
        return Finding("masks", "ok", text)
    if ACTION_MASK_KEY in said.names and not mask_sizes(env.action_space):
        text = f"info['{ACTION_MASK_KEY}'] is given, but actions of {env.action_space} can't be masked"
        return unfit("masks", text, "Leave it out, or make the actions Discrete or MultiDiscrete.")
    alike = sorted(said.names & _LIKE_A_MASK)
    if alike and mask_sizes(env.action_space):
        return Finding("masks", "remark", f"info['{alike[0]}'] is not read, and no mask is seen", advice)
    return Finding("masks", "ok", "none seen")


def _read_names(said: _Said) -> Finding:
    """Say which keys of infos are read, and which only look as if they were."""
    read = sorted(said.names & {"is_success", "regret"})
    read += ["target"] if said.answers else []
    text = f"read: {', '.join(read)}" if read else "nothing in them is read"
    if "target" in said.names and not said.answers:
        text += "; info['target'] is no action, so it teaches nothing"
    alike = sorted(said.names & _LIKE_A_SUCCESS)
    if alike and "is_success" not in said.names:
        advice = "Success rates come from info['is_success']."
        return Finding("infos", "hint", f"{text}; info['{alike[0]}'] is not", advice)
    return Finding("infos", "ok", text)
