"""Settings of neuroevolution, ``rlstm.agents.evolino``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

from rlstm.core.ranges import AtLeast, NotNegative, Positive, check_ranges
from rlstm.core.searched import Among, Tried
from rlstm.training.config import AgentConfig

READ_BY = {
    "least_sigma": ("snes", "sep-cma-es", "cma-es"),
    "mutation_scale": ("esp", "cosyne"),
    "combinations": ("esp",),
    "credit": ("esp",),
    "burst_after": ("esp",),
    "es_learning_rate": ("open-es",),
    "ridge_strength": ("ridge", "rwr"),
    "elite_episodes": ("rwr",),
    "teacher_sequences": ("lstsq", "ridge", "svm"),
    "washout": ("lstsq", "ridge", "svm"),
}
"""The strategies, or readouts, that alone read a setting."""

_OF_STRATEGIES = frozenset(
    ("least_sigma", "mutation_scale", "combinations", "credit", "burst_after", "es_learning_rate")
)


@dataclass(frozen=True)
class EvolinoConfig(AgentConfig):
    """Neuroevolution of a memory (Evolino)."""

    has_critic = False
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

    def choose_readout(self, *, has_teacher: bool, forces: bool) -> str:
        """Return how readouts come about: as set or, for auto, what suits the teacher; refuse what does not.

        Args:
            has_teacher: Whether there are demonstrations, or targets in the env's infos.
            forces: Whether the env can force the teacher's answers on what is seen.
        """
        if self.readout in ("lstsq", "ridge", "svm") and not has_teacher:
            raise ValueError(
                f"readout is '{self.readout}', which needs a teacher, but no step of the env asks anything by "
                "info['target'] (NaN, classes below 0 and what is no number ask nothing), and no demonstrations are "
                "given. Use --readout joint, or --demonstrations FILE (rlstm record)."
            )
        automatic = ("lstsq" if forces else "ridge") if has_teacher else "joint"
        if self.readout == "rwr" and has_teacher:
            raise ValueError(
                "readout is 'rwr', which learns from its own best episodes, but the env has a teacher: info['target']. "
                f"Leave readout out, and '{automatic}' is used."
            )
        return automatic if self.readout == "auto" else self.readout

    def check_run(
        self, *, strategy: str, readout: str, is_solved: bool, forces: bool, device: str, head_sizes: tuple[int, ...]
    ) -> None:
        """Refuse settings that make no sense for a readout, env or device; warn of those that nothing reads.

        Args:
            strategy: The one that proposes genomes.
            readout: How readouts come about.
            is_solved: Whether they are solved.
            forces: Whether the env can force the teacher's answers on what is seen.
            device: Where the policy is.
            head_sizes: Layers of its heads.
        """
        if self.workers > 1 and not device.startswith("cpu"):
            raise ValueError(
                f"workers is {self.workers}, but the run is on {device}, where one process plays everything: leave "
                "--workers out, or use --device cpu."
            )
        if self.fitness == "error" and (forces or not is_solved):
            reason = "the env can force its answers, and then errors tell nothing of a free run"
            raise ValueError(
                f"fitness is 'error', but {reason if is_solved else 'there is no teacher'}: leave fitness out."
            )
        if is_solved and head_sizes:
            raise ValueError(
                f"head_sizes is {head_sizes}, but readout '{readout}' solves a linear one: leave head_sizes out, or "
                "use --readout joint."
            )
        if forces and is_solved and self.washout == 0:
            warnings.warn(
                "washout is 0, but answers are fed back: a readout that is fitted to a memory which has just begun "
                "goes astray when it runs free. Leave --washout out, or give it some dozen steps.",
                stacklevel=3,
            )
        for field in fields(self):
            value, readers = getattr(self, field.name), READ_BY.get(field.name)
            if value != field.default and readers and not {strategy, readout} & set(readers):
                by_strategy = field.name in _OF_STRATEGIES
                chosen = f"strategy is '{strategy}'" if by_strategy else f"readout is '{readout}'"
                warnings.warn(
                    f"{field.name} is {value}, which has no effect: {chosen}, and it is read with "
                    f"{', '.join(readers)} alone.",
                    stacklevel=3,
                )
