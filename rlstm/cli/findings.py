"""What a check of an env found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "hint", "remark", "unfit"]


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    topic: str
    level: Level
    text: str
    advice: str = ""
    """What to do about it."""


def unfit(topic: str, text: str, advice: str = "") -> Finding:
    """Return the finding that an env is not fit for training."""
    return Finding(topic, "unfit", text if text.endswith(".") else f"{text}.", advice)
