"""Settings of random actions, ``rlstm.agents.random_agent``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rlstm.core.ranges import AtLeast, check_ranges
from rlstm.training.config import AgentConfig


@dataclass(frozen=True)
class RandomConfig(AgentConfig):
    """Uniformly random actions."""

    acts_by = "sampled"
    has_critic = False

    num_steps: Annotated[int, AtLeast(1)] = 128
    """Steps T of a rollout in each environment."""

    def __post_init__(self) -> None:
        """Refuse an empty rollout."""
        check_ranges(self)
