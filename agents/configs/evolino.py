"""Settings of neuroevolution, ``rlstm.agents.evolino``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from rlstm.core.ranges import AtLeast, NotNegative, Positive, check_ranges
from rlstm.core.searched import Among, Tried
from rlstm.training.config import AgentConfig


@dataclass(frozen=True)
class EvolinoConfig(AgentConfig):
    """Neuroevolution of a memory (Evolino)."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "num_envs": 4,
        "hidden_size": 16,
        "encoder_sizes": (),
        "normalize_observations": False,
        "scale_rewards": False,
        "total_steps": 1_000_000,
    }
    """What other settings are if they are not set: small networks that read observations as they are, and steps for
    tens of generations."""

    searched: ClassVar[Mapping[str, Tried | None]] = {
        "cell": Among("lstm", "gru"),
        "hidden_size": Among(4, 8, 16, 32),
        "num_envs": Among(2, 4, 8),
        "num_layers": None,
        "memory_length": None,
        "memory.bptt_horizon": None,
    }
    """What a search tries of other settings: small networks; nothing of what matters to gradients alone."""

    strategy: Annotated[
        Literal["snes", "esp", "cosyne", "open-es", "sep-cma-es", "cma-es"], Among("snes", "esp", "cosyne")
    ] = "snes"
    """What proposes genomes."""

    readout: Literal["auto", "joint", "lstsq", "ridge", "svm", "cma", "rwr"] = "auto"
    """Joint: evolved with the memory; lstsq, ridge, svm: solved from targets; cma: evolved alone, over a memory that
    keeps its initial weights; rwr: solved from the best episodes played so far, weighted by return (experimental).
    Auto: joint without a teacher, lstsq if the env forces its answers, else ridge."""

    fitness: Literal["return", "error"] = "return"
    """Return: of episodes played without the teacher; error: minus the mean squared error of a solved readout on
    held-out teacher sequences, as many as environments. Not if the env forces its answers: the return is then the error
    of a free run."""

    population: Annotated[int | None, Among(None, 16, 32, 64)] = None
    """Genomes of a generation. Default: the strategy's own."""

    episodes: Annotated[int, AtLeast(1)] = 1
    """Episodes (trials, if memory lasts for one) of each genome in each of its environments."""

    sigma: Annotated[float | None, Positive, Among(None, 0.1, 0.3, 1.0, 3.0)] = None
    """Standard deviation of the first generation's genes. Default: 3 if readouts evolve with the memory, so that gates
    are open or shut from the start; 0.1 otherwise, and around the weights of another run."""

    least_sigma: float = 0.0
    """Below which the deviation never falls: snes, sep-cma-es, cma-es."""

    patience: Annotated[int | None, AtLeast(1)] = None
    """Generations without a better genome after which the strategy starts again. Default: never."""

    biases: Annotated[bool, Among(True, False)] = True
    """Whether biases are genes; without them they are 0, which suits symmetric tasks."""

    input_gain: Annotated[float, Positive] = 1.0
    """What the weights that read the inputs are multiplied by: β of the papers, small where a signal is fed back."""

    mutation_scale: float | None = None
    """Scale of Cauchy noise on children: esp, cosyne. Default: the strategy's own."""

    combinations: Annotated[int, AtLeast(1)] = 1
    """Networks in which a chromosome plays: esp."""

    credit: Literal["mean", "max"] = "mean"
    """What a chromosome is credited with: esp."""

    burst_after: Annotated[int, AtLeast(1)] = 20
    """Generations without progress after which esp starts again around the best network."""

    es_learning_rate: Annotated[float, Positive] = 0.05
    """Adam's step size: open-es."""

    teacher_sequences: Annotated[int, AtLeast(1)] = 4
    """Sequences with a teacher's answers from which a readout is solved."""

    washout: Annotated[int | None, NotNegative] = None
    """Steps at the start of a teacher sequence left out of the fit. Default: 0; a quarter if answers are fed back."""

    ridge_strength: Annotated[float, Positive] = 1e-3
    """The penalty of ridge and rwr, relative to the features' variance."""

    demonstrations: str | None = None
    """File of demonstrations (rlstm record) that are the teacher."""

    elite_episodes: Annotated[int, AtLeast(1)] = 20
    """Best episodes so far (trials, if memory lasts for one) that are kept as the teacher: rwr."""

    confirm_episodes: Annotated[int, AtLeast(1)] = 16
    """Episodes on fresh seeds that decide between the champion and its challengers."""

    workers: Annotated[int, AtLeast(1)] = 1
    """Processes that share a generation; the result is the same whatever their number."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_ranges(self)
        if self.fitness == "error" and (self.demonstrations is not None or self.readout in ("joint", "cma", "rwr")):
            raise ValueError(
                "fitness is 'error', which needs an env with a teacher and a readout solved from it: leave out "
                "demonstrations, and joint, cma and rwr of readout; or leave out fitness."
            )
        if self.fitness == "error" and self.episodes > 1:
            raise ValueError(f"episodes is {self.episodes}, but fitness 'error' plays no episodes: use --num-envs.")
        if self.demonstrations is not None and self.readout in ("joint", "cma", "rwr"):
            raise ValueError(
                f"readout is '{self.readout}', which no demonstrations can teach; use ridge, lstsq or svm."
            )
