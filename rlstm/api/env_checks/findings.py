"""What a check of an env found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "hint", "remark", "unfit"]

Report = Callable[[str], None]
"""Is told which checks come next."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    topic: str
    level: Level
    text: str
    advice: str = ""
    """What to do about it."""

    @property
    def sentence(self) -> str:
        """What was found, and what to do about it."""
        return f"{self.text.rstrip('.')}. {self.advice}".strip()


def unfit(topic: str, text: str, advice: str = "") -> Finding:
    """Return the finding that an env is not fit for training."""
    return Finding(topic, "unfit", text if text.endswith(".") else f"{text}.", advice)
