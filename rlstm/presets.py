"""Presets: settings found for a task, by name. A flag or a config file changes any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlstm.errors import unknown_name

__all__ = ["PRESETS", "Preset", "find_preset"]


@dataclass(frozen=True)
class Preset:
    """An agent, an env and the settings with which the one learns the other."""

    agent: str
    settings: Mapping[str, Any]  # By the names of the flags, see ``rlstm.config``.
    description: str


PRESETS: dict[str, Preset] = {
    "tmaze": Preset(
        "ppo",
        {
            "env": "rlstm/TMaze-v0",
            "env_kwargs": {"corridor_length": 20},
            "total_steps": 300_000,
            "num_envs": 64,
            "hidden_size": 64,
            "encoder_sizes": (32,),
            "num_steps": 64,
            "learning_rate": 1e-3,
            "anneal_lr": True,
            "gae_lambda": 0.98,
            "ent_coef": 0.03,
            "memory_length": 40,
        },
        "Bakker's T-maze, corridor 20: remember a sign over 20 steps.",
    ),
    "cartpole-no-vel": Preset(
        "ppo",
        {
            "env": "rlstm/CartPoleNoVel-v0",
            "total_steps": 100_000,
            "num_envs": 16,
            "learning_rate": 1e-3,
            "anneal_lr": True,
        },
        "Balance a pole without seeing velocities.",
    ),
}


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        UnknownNameError: If there is none of this name, with the nearest one.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
