"""Settings of recurrent policy gradients, ``rlstm.agents.reinforce``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from rlstm.core.ranges import AtLeast, Between, Positive, check_ranges
from rlstm.core.searched import Among, Within
from rlstm.training.config import AgentConfig


@dataclass(frozen=True)
class REINFORCEConfig(AgentConfig):
    """Recurrent policy gradients (REINFORCE)."""

    acts_by = "sampled"

    num_episodes: Annotated[int | None, AtLeast(1), Among(None, 8, 16, 64)] = None
    """Complete episodes of a batch; if memory lasts for a trial, a multiple of its episodes. Default: 32, or those of
    32 trials."""

    baseline: Annotated[Literal["none", "mean", "history"], Among("mean", "history")] = "history"
    """Taken from returns: nothing, a running mean for each time step, or that and the critic's value of the history."""

    learning_rate: Annotated[float, Positive, Within(2e-4, 2e-2, log=True)] = 2e-3
    """Adam's step size."""

    anneal_lr: bool = True
    """Lower the learning rate linearly to 0 over the run."""

    gamma: Annotated[float, Between(0, 1), Among(0.9, 0.95, 0.98, 0.99, 0.995, 0.999)] = 0.99
    """Discount a step."""

    ent_coef: Annotated[float, Within(1e-3, 0.3, log=True)] = 0.03
    """Weight of the entropy bonus."""

    final_ent_coef: float | None = 0.003
    """Its weight at the end of the run, reached linearly; none for the same."""

    vf_coef: float = 0.5
    """Weight of the value loss where the critic reads the actor's memory."""

    critic_epochs: Annotated[int, AtLeast(1), Among(1, 4, 16)] = 4
    """Gradient steps of a critic with a memory of its own on each batch."""

    max_grad_norm: Annotated[float, Positive] = 0.5
    """Largest global norm of the gradient."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_ranges(self)

    @property
    def critic_memory(self) -> Literal["shared", "separate"]:
        """Return the memory of the critic by default: its own, as in the paper, if there is a critic."""
        return "separate" if self.baseline == "history" else "shared"
