"""What a preset is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """An agent, and the settings with which it learns an env."""

    agent: str
    settings: Mapping[str, Any]  # By the names of the flags, see ``rlstm.training.config``.
    description: str


def preset(agent: str, description: str, *layers: Mapping[str, Any], **settings: Any) -> Preset:
    """Return a preset of the layers of settings, the later ones winning, and further settings over them."""
    merged = {name: value for layer in (*layers, settings) for name, value in layer.items()}
    return Preset(agent, merged, description)


def task(env: str, total_steps: int, **env_kwargs: Any) -> dict[str, Any]:
    """Return the settings of an env, its arguments, and how long it is learnt."""
    return {"env": env, "total_steps": total_steps} | ({"env_kwargs": env_kwargs} if env_kwargs else {})
