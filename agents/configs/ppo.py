"""Settings of proximal policy optimisation, ``rlstm.agents.ppo``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from rlstm.core.ranges import AtLeast, Between, Positive, check_ranges
from rlstm.training.config import AgentConfig


@dataclass(frozen=True)
class PPOConfig(AgentConfig):
    """Recurrent proximal policy optimisation."""

    acts_by = "sampled"

    num_steps: Annotated[int, AtLeast(1)] = 128
    """Steps T of a rollout in each environment."""

    num_minibatches: Annotated[int, AtLeast(1)] = 4
    """Minibatches an epoch; each holds whole sequences, so this must divide num_envs."""

    update_epochs: Annotated[int, AtLeast(1)] = 4
    """Passes over a rollout."""

    learning_rate: Annotated[float, Positive] = 1e-3
    """Adam's step size."""

    anneal_lr: bool = True
    """Lower the learning rate linearly to 0 over the run."""

    gamma: Annotated[float, Between(0, 1)] = 0.99
    """Discount a step."""

    gae_lambda: Annotated[float, Between(0, 1)] = 0.95
    """λ of the advantage estimate; 1 gives Monte Carlo returns."""

    clip_coef: Annotated[float, Positive] = 0.2
    """Half width ε of the clipped ratio."""

    clip_vloss: float | None = None
    """Clip the value's change to this range, in the critic's units. Default: no clipping."""

    norm_adv: bool = True
    """Normalise advantages in each minibatch."""

    ent_coef: float = 0.01
    """Weight of the entropy bonus."""

    final_ent_coef: float | None = None
    """Its weight at the end of the run, reached linearly. Default: the same."""

    vf_coef: float = 0.5
    """Weight of the value loss."""

    value_bias: Literal["zero", "returns"] = "returns"
    """Where values begin: at 0, or at the mean return that the first rollout lets expect, which then trains nothing."""

    max_grad_norm: Annotated[float, Positive] = 0.5
    """Largest global norm of the gradient."""

    target_kl: float | None = None
    """End the epochs once the KL estimate passes 1.5 times this. Default: never."""

    refresh_states: bool = True
    """Replay the rollout with the new weights, so that the carried state is theirs."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_ranges(self)
