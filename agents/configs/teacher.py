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
    """Backpropagation through time from a teacher's answers."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "num_envs": 1,
        "hidden_size": 32,
        "encoder_sizes": (),
        "normalize_observations": False,
        "scale_rewards": False,
        "total_steps": 1_000_000,
    }
    """What other settings are if they are not set: a memory that reads observations as they are, as in the papers."""

    searched: ClassVar[Mapping[str, Tried | None]] = {"num_envs": None}
    """What a search tries of other settings: not the envs, as sequences come ``batch_size`` at once."""

    batch_size: Annotated[int, AtLeast(1), Among(4, 16, 64)] = 16
    """Sequences of an update."""

    learning_rate: Annotated[float, Positive, Within(3e-4, 3e-2, log=True)] = 3e-3
    """Adam's step size."""

    anneal_lr: bool = False
    """Lower the learning rate linearly to 0 over the run."""

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

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_ranges(self)
