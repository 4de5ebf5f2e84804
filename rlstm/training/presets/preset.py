"""What a preset is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Preset"]


@dataclass(frozen=True)
class Preset:
    """An agent, an env and the settings with which the one learns the other."""

    agent: str
    settings: Mapping[str, Any]  # By the names of the flags, see ``rlstm.training.config``.
    description: str
