"""Evolino: evolve what is remembered; solve the readout where there is a teacher, evolve it too where there is none.

Sources: Schmidhuber, Wierstra, Gagliolo, Gomez, *Training recurrent networks by Evolino*, Neural Computation 19(3),
2007; with support vectors (Evoke) Schmidhuber, Gagliolo, Wierstra, Gomez, IDSIA-19-05, 2005; without a teacher Gomez &
Schmidhuber, *Co-evolving recurrent neurons learn deep memory POMDPs*, GECCO 2005.

Implementation details, each with its reason:

1.  A genome is the weights of encoder and memory, and with ``readout`` joint the policy head's too. For ESP a memory
    cell's incoming weights (and outgoing ones, if they evolve) are one chromosome, as in the papers.
2.  With a teacher (``info["target"]`` at the steps of the env, or demonstrations) every genome lives through the same
    lessons, previous answers forced to the teacher's, and its readout is solved in closed form in float64. Then it
    plays episodes on other seeds, alone: its fitness is the mean return, not the error of the fit. With ``fitness``
    error it is minus the mean squared error of its answers in lessons on other seeds, as in the papers: where answers
    are sets or classes that goes on telling better from good when all are right.
3.  With ``readout`` rwr the best episodes that anybody has played are the teacher: a readout is solved from what was
    done in them, weighted by return (``rlstm.evolution.elite_archive``). First an untrained policy explores; then,
    after every generation, its best quarter plays again with noise, on fresh seeds. Fitness is without noise.
4.  All genomes of a generation play under the same seeds, the next generation under others: nobody is lucky.
5.  The champion stays until somebody is better. Who looks better than the champion's score has to prove it: both, and
    the strategy's own bet, play the same fresh seeds, and the best becomes, or stays, champion. Its score is the mean
    of all that it played there, so a lucky generation is no record.
6.  Observation normalisers, if wanted, are filled by the first lives of an untrained policy and then stay: a champion
    is worth what it was only while it sees what it saw.
7.  Genomes begin around 0, not around a network's usual initial weights; ``--init-from`` begins around a trained one.
8.  Evolution has no critic, no discount and no gradient: these settings mean nothing here.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from rlstm.core.ranges import AtLeast, NotNegative, Positive, check_ranges
from rlstm.evolution.elite_archive import EliteArchive
from rlstm.evolution.fitness import EvolvedParameters, FitnessResult
from rlstm.evolution.readout_choice import Solver, choose_readout, solver
from rlstm.evolution.strategies import Strategy
from rlstm.evolution.strategies.making import make_strategy, unread_settings
from rlstm.policies.policy import RecurrentPolicy
from rlstm.training.generations import Evolution

__all__ = ["Evolino", "EvolinoConfig"]

_ALL_ALIKE = 20  # Generations of equal fitness after which something is wrong.


@dataclass(frozen=True)
class EvolinoConfig:
    """Neuroevolution of what is remembered (Evolino)."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "num_envs": 4,
        "hidden_size": 16,
        "encoder_sizes": (),
        "normalize_observations": False,
        "scale_rewards": False,
    }
    """What other settings are if they are not set: small networks that read observations as they are."""

    strategy: Literal["snes", "esp", "cosyne", "open-es", "sep-cma-es", "cma-es"] = "snes"
    """What proposes genomes."""

    readout: Literal["auto", "joint", "lstsq", "ridge", "svm", "cma", "rwr"] = "auto"
    """Joint: evolved with the memory; lstsq, ridge, svm: solved from targets; cma: evolved alone, over a memory that
    keeps its initial weights; rwr: solved from the best episodes played so far, weighted by return (experimental).
    Auto: joint without a teacher, lstsq if the env forces its answers, else ridge."""

    fitness: Literal["return", "error"] = "return"
    """Return: of episodes played without the teacher; error: minus the mean squared error of a solved readout on
    held-out teacher sequences, as many as environments. Not if the env forces its answers: the return is then the error
    of a free run."""

    population: int | None = None
    """Genomes of a generation. Default: the strategy's own."""

    episodes: Annotated[int, AtLeast(1)] = 1
    """Episodes (trials, if memory lasts for one) of each genome in each of its environments."""

    sigma: Annotated[float, Positive] = 0.1
    """Standard deviation of the first generation's genes."""

    least_sigma: float = 0.0
    """Below which the deviation never falls: snes, sep-cma-es, cma-es."""

    patience: Annotated[int | None, AtLeast(1)] = None
    """Generations without a better genome after which the strategy starts again. Default: never."""

    biases: bool = True
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


class Evolino:
    """The learner: owns a strategy and the champion.

    Args:
        policy: What evolves; its weights become the champion's.
        config: The algorithm's constants.
        has_teacher: Whether there are targets.
        generator: Draws everything random.

    Raises:
        ValueError: If a readout needs a teacher that isn't there, or more than the memory's output, or the strategy
            refuses its sizes.
    """

    training_type = Evolution

    def __init__(
        self,
        policy: RecurrentPolicy,
        config: EvolinoConfig,
        *,
        has_teacher: bool,
        teacher_forces: bool,
        generator: torch.Generator,
    ) -> None:
        self.policy, self.config, self.generator = policy, config, generator
        self.readout = choose_readout(config.readout, has_teacher=has_teacher, teacher_forces=teacher_forces)
        solved = self.readout in ("lstsq", "ridge", "svm", "rwr")
        if config.fitness == "error" and (teacher_forces or not solved):
            reason = "the env can force its answers, and then errors tell nothing of a free run"
            raise ValueError(
                f"fitness is 'error', but {reason if solved else 'there is no teacher'}: leave fitness out."
            )
        if solved and policy.config.head_sizes:
            raise ValueError(
                f"head_sizes is {policy.config.head_sizes}, but readout '{self.readout}' solves a linear one: leave "
                "head_sizes out, or use --readout joint."
            )
        self.solve: Solver | None = solver(self.readout, config.ridge_strength) if solved else None
        self.elites = EliteArchive(config.elite_episodes) if self.readout == "rwr" else None
        self.strategy_name = "cma-es" if self.readout == "cma" else config.strategy
        for reason in unread_settings(config, self.strategy_name, self.readout):
            warnings.warn(reason, stacklevel=2)
        self.genotype = self._genotype()
        self.strategy: Strategy = self._strategy(torch.zeros(self.genotype.evolved.num_genes, dtype=torch.float64))
        self.champion: Tensor | None = None  # (N,) all acting weights
        self.champion_return, self.champion_success, self.champion_episodes = -math.inf, math.nan, 0
        self.alike, self.varied = 0, False

    def __str__(self) -> str:
        """Return what evolves and how."""
        genes, population = self.genotype.evolved.num_genes, self.strategy.population
        return f"{self.strategy_name}, {population} genomes of {genes} genes, readout {self.readout}"

    def begin(self, *, from_weights: bool) -> None:
        """Draw the first generation around 0, or around the policy's weights."""
        self.genotype = self._genotype()
        mean = self.genotype.evolved.read(self.policy)
        self.strategy = self._strategy(mean if from_weights else torch.zeros_like(mean))

    def _genotype(self) -> EvolvedParameters:
        config = self.config
        return EvolvedParameters(
            self.policy,
            readout=self.solve is None,
            memory=self.readout != "cma",
            biases=config.biases,
            input_gain=config.input_gain,
        )

    def _strategy(self, mean: Tensor) -> Strategy:
        return make_strategy(
            self.strategy_name,
            mean,
            dataclasses.asdict(self.config),
            groups=lambda: self.genotype.evolved.groups(self.policy),
            generator=self.generator,
        )

    def ask(self) -> Tensor:
        """Return the next generation ``(P, N)``."""
        return self.strategy.ask()

    def tell(self, verdict: FitnessResult) -> dict[str, float]:
        """Learn from a generation; returns metrics by their tags."""
        fitness = verdict.fitness
        self.strategy.tell(fitness)
        self._count_alike(fitness[fitness.isfinite()])
        metrics = verdict.metrics()
        for name in ("num_bursts", "num_restarts"):
            if hasattr(self.strategy, name):
                metrics[f"evolino/{name.removeprefix('num_')}"] = float(getattr(self.strategy, name))
        sigma = getattr(self.strategy, "sigma", None)
        if sigma is not None:
            metrics["evolino/sigma"] = float(torch.as_tensor(sigma).mean())
        return metrics

    def _count_alike(self, fitness: Tensor) -> None:
        """Warn where for long nobody was better than anybody else, unless all are as good as the champion."""
        value = float(fitness[0]) if len(fitness) else -math.inf
        alike = len(fitness) == 0 or bool((fitness == value).all())
        self.varied |= not alike
        taught = self.solve is not None and self.elites is None
        solved = (self.varied or taught) and value >= self.champion_return
        self.alike = self.alike + 1 if alike and not solved else 0
        if self.alike == _ALL_ALIKE:
            warnings.warn(
                f"For {_ALL_ALIKE} generations all {self.strategy.population} genomes were worth the same, "
                f"{value:.4g}: there is nothing to select. Try a larger --sigma or --population, more --num-envs or "
                "--episodes, or a reward that tells near misses from far ones.",
                stacklevel=2,
            )

    def candidates(self, verdict: FitnessResult) -> Tensor | None:
        """Return who may become champion, ``(C, N)``: the generation's best, the strategy's own bet, the champion.

        None where the best does not look better than the champion's score.
        """
        fitness = verdict.fitness
        best = int(fitness.argmax())
        if not math.isfinite(float(fitness[best])) or float(fitness[best]) <= self.champion_return:
            return None
        rows = [verdict.genomes[best]]
        if self.solve is None:
            rows.append(self.genotype.complete(self.strategy.centre.unsqueeze(0), None)[0])
        if self.champion is not None:
            rows.append(self.champion)
        return torch.stack(rows)

    def decide(self, verdict: FitnessResult) -> None:
        """Make the best of the candidates champion; of equals the one that is it already."""
        fitness = verdict.fitness
        incumbent = len(fitness) - 1 if self.champion is not None else None
        best = int(fitness.argmax())
        if incumbent is not None and float(fitness[best]) <= float(fitness[incumbent]):
            best = incumbent
        if best != incumbent:
            self.champion = verdict.genomes[best].clone()
            self.champion_return, self.champion_success, self.champion_episodes = 0.0, 0.0, 0
            self.genotype.whole.write(self.policy, self.champion)
        count = verdict.returns.shape[1]
        share = count / (self.champion_episodes + count)
        self.champion_return += share * (float(fitness[best]) - self.champion_return)
        self.champion_success += share * (float(verdict.successes[best].mean()) - self.champion_success)
        self.champion_episodes += count

    def explorers(self, verdict: FitnessResult) -> Tensor:
        """Return who plays again with noise, in search of better elites, ``(C, N)``: the generation's best quarter."""
        ranks = verdict.fitness.argsort(descending=True, stable=True)[: max(1, len(verdict.genomes) // 4)]
        return verdict.genomes[ranks[verdict.fitness[ranks].isfinite()]]

    def champion_metrics(self) -> dict[str, float]:
        """Return by their tags what the champion was worth on fresh seeds."""
        if self.champion is None:
            return {}
        metrics = {"evolino/champion": self.champion_return}
        if not math.isnan(self.champion_success):
            metrics["evolino/champion_success_rate"] = self.champion_success
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return all but the policy's weights."""
        return {
            "strategy": self.strategy.state_dict(),
            "champion": self.champion,
            "champion_return": self.champion_return,
            "champion_success": self.champion_success,
            "champion_episodes": self.champion_episodes,
            "alike": self.alike,
            "varied": self.varied,
            "action_generator": self.policy.generator.get_state(),
            "elites": None if self.elites is None else self.elites.state_dict(),
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        self.strategy.load_state_dict(values["strategy"])
        for name in ("champion", "champion_return", "champion_success", "champion_episodes", "alike", "varied"):
            setattr(self, name, values[name])
        self.policy.generator.set_state(values["action_generator"])
        if self.elites is not None:
            self.elites.load_state_dict(values["elites"])
