"""Settings of gradient training with a teacher, ``rlstm.agents.teacher``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from rlstm.core.ranges import AtLeast, NotNegative, Positive, check_ranges
from rlstm.core.searched import Among, Tried, Within
from rlstm.training.config import AgentConfig


@dataclass(frozen=True)
class TeacherConfig(AgentConfig):
    """Learning from a teacher's answers: by backpropagation through time, or by a Kalman filter."""

    has_critic = False
    defaults: ClassVar[Mapping[str, Any]] = {
        "hidden_size": 32,
        "encoder_sizes": (),
        "normalize_observations": False,
        "scale_rewards": False,
        "total_steps": 1_000_000,
    }
    """What other settings are if they are not set: a memory that reads observations as they are, as in the papers."""

    searched: ClassVar[Mapping[str, Tried | None]] = {"num_envs": None}
    """What a search tries of other settings: not the envs, as sequences come ``batch_size`` at once."""

    optimizer: Literal["adam", "dekf"] = "adam"
    """Adam: a step down the gradient for each batch; dekf: a step of a decoupled extended Kalman filter for each answer
    (Perez-Ortiz et al. 2003), for small memories in float64."""

    batch_size: Annotated[int, AtLeast(1), Among(4, 16, 64)] = 16
    """Sequences of an update."""

    learning_rate: Annotated[float, Positive, Within(3e-4, 3e-2, log=True)] = 3e-3
    """Adam's step size."""

    anneal_lr: bool = False
    """Lower the learning rate linearly to 0 over the run."""

    adam_epsilon: Annotated[float, Positive] = 1e-5
    """Adam's ε: gradients much smaller than it take small steps, so that what is left of noise where nearly all is
    right does not move the weights. 1e-8 is usual elsewhere."""

    weight_decay: Annotated[float, NotNegative] = 0.0
    """Decoupled weight decay (AdamW)."""

    max_grad_norm: Annotated[float, Positive] = 1.0
    """Largest global norm of the gradient."""

    loss: Literal["auto", "squared", "cross-entropy", "ctc"] = "auto"
    """Squared: mean squared error of what is put out; cross-entropy: minus the log-probability of the right answer, of
    every bit or choice where several symbols are legal; ctc: of the string of labels, whenever they are answered, where
    the env gives strings. Auto: ctc where there are strings, squared where answers are numbers, else cross-entropy."""

    washout: Annotated[int | None, NotNegative] = None
    """Steps at the beginning of every sequence that ask nothing. Default: none, or, where the env forces the teacher's
    answers, a quarter of the longest sequence."""

    demonstrations: str | None = None
    """File of demonstrations (rlstm record) to imitate, in place of the env's own teacher."""

    dekf_measurement_noise: Annotated[float, Positive] = 100.0
    """R of the Kalman filter at the start, the variance of an answer: the larger, the smaller the steps."""

    dekf_final_measurement_noise: Annotated[float, Positive] = 1.0
    """R at the end of the run; in between it goes geometrically."""

    dekf_process_noise: Annotated[float, NotNegative] = 1e-2
    """Q at the start, the variance that every weight gains in a step: with 0 the steps die out."""

    dekf_final_process_noise: Annotated[float, NotNegative] = 1e-6
    """Q at the end of the run; in between it goes geometrically."""

    dekf_first_variance: Annotated[float, Positive] = 100.0
    """P at the start, the variance of every weight: how far from its first value it may be."""

    dekf_weight_noise: Annotated[float, NotNegative] = 0.0
    """Deviation of noise on every weight of encoder and memory, drawn anew for each sequence (Jim, Giles & Horne 1996):
    what is learnt then holds for sequences longer than those seen."""

    dekf_groups: Literal["unit", "all"] = "unit"
    """Weights that share a covariance: those into a unit, or all there are (the plain extended Kalman filter)."""

    dekf_derivatives: Literal["full", "truncated"] = "full"
    """Through all of the recurrence, or along each unit's own memory alone (lstm, peephole_lstm)."""

    dekf_measured: Literal["probabilities", "outputs"] = "probabilities"
    """What of choices is compared with right ones: their probabilities with 1 and 0, or the outputs with 1 and -1."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_ranges(self)
        noises = self.dekf_process_noise, self.dekf_final_process_noise
        if (min(noises) == 0) != (max(noises) == 0):
            raise ValueError(
                f"dekf_process_noise is {noises[0]:g} and dekf_final_process_noise {noises[1]:g}: neither goes "
                "geometrically to or from 0. Make both more than 0, or both 0."
            )
