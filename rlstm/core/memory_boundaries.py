"""Three boundaries, three choices: where memory is reset, where credit ends, how far gradients flow back.

========================  ================================  =====================================================
option                    values                            decides
========================  ================================  =====================================================
``memory.lifetime``       episode, trial, lifelong          when the state is reset: ``is_first``
``memory.credit``         episode, trial, lifelong          where returns and bootstrapping are cut: ``credit_cuts``
``memory.bptt_horizon``   steps, or none = whole rollout    how far gradients flow; cut where memory is reset too
========================  ================================  =====================================================

Credit may not outlive memory: a value that flows on needs a state that flows on. A *trial* is ``episodes_per_trial``
episodes of one drawn task (Duan et al. 2016, RL²).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from rlstm.core.ranges import AtLeast, check_ranges
from rlstm.core.searched import Among

Boundary = Literal["episode", "trial", "lifelong"]
_ALLOWED_CREDIT: dict[str, tuple[str, ...]] = {
    "episode": ("episode",),
    "trial": ("episode", "trial"),
    "lifelong": ("episode", "trial", "lifelong"),
}


@dataclass(frozen=True)
class MemoryConfig:
    """Where memory, credit and gradient end."""

    lifetime: Boundary = "episode"
    """When the state is reset: before every episode, before every trial, or never."""

    credit: Boundary | None = None
    """Where returns are cut: after every episode, after every trial, or never. Default: as the lifetime."""

    bptt_horizon: Annotated[int | None, AtLeast(1), Among(None, 16, 64)] = None
    """Detach the state every so many steps, counted from the rollout's start. Default: not within a rollout."""

    recompute: bool = False
    """Keep the state only every √T steps and compute the steps between again for the gradient: long rollouts fit."""

    episodes_per_trial: Annotated[int | None, AtLeast(1)] = None
    """Number of episodes K that share one drawn task. Needed if lifetime or credit is 'trial'."""

    insist_on_trials: bool = False
    """Run trials over an env that does not declare that it keeps its task (metadata 'supports_new_task')."""

    def __post_init__(self) -> None:
        """Refuse values out of range and combinations that contradict each other, with the reason."""
        check_ranges(self, prefix="memory.")
        if self.credit_boundary not in _ALLOWED_CREDIT[self.lifetime]:
            raise ValueError(
                f"memory.credit is '{self.credit}' but memory.lifetime is '{self.lifetime}': credit may not outlive "
                f"memory, because the value that flows on would belong to a state that was reset. With this lifetime "
                f"use {' or '.join(_ALLOWED_CREDIT[self.lifetime])}."
            )
        if "trial" in (self.lifetime, self.credit) and self.episodes_per_trial is None:
            raise ValueError(
                "memory.lifetime or memory.credit is 'trial', but memory.episodes_per_trial is not set: say how many "
                "episodes share one task."
            )

    @property
    def credit_boundary(self) -> Boundary:
        """Return where returns are cut, with the default filled in."""
        return self.lifetime if self.credit is None else self.credit


@dataclass(frozen=True)
class InputsConfig:
    """What the policy sees beside the observation. Default: on if memory outlives the episode."""

    previous_action: Annotated[bool | None, Among(False, True)] = None
    """The action of the step before (0 where memory begins)."""

    previous_reward: Annotated[bool | None, Among(False, True)] = None
    """The reward of the step before (0 where memory begins)."""

    episode_start: bool | None = None
    """A bit that is 1 at the first step of an episode."""

    def resolve(self, lifetime: Boundary) -> InputsConfig:
        """Return the config with every default filled in for ``lifetime``."""
        default = lifetime != "episode"
        values = (self.previous_action, self.previous_reward, self.episode_start)
        return InputsConfig(*(default if value is None else value for value in values))
