"""What genomes are worth: their readouts solved where there is a teacher, then episodes played under common seeds.

Instead of playing they may sit an exam: lessons from which nothing was solved, in which their errors count.

A generation is judged in shards that its size alone decides, so that the result is the same to the last bit however
many processes share them (``rlstm.evolution.workers``).

Letters in shapes: P = genomes, N = genes, K = episodes of each genome, or lessons of an exam, S = lessons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlstm.core.arrays import BoolArray
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.trees import tree_map
from rlstm.evaluation.demonstrations import Demonstrations
from rlstm.evaluation.evaluate import EvaluationResult
from rlstm.evaluation.record import recorded
from rlstm.evolution.parameters import ParameterLayout
from rlstm.evolution.population import PopulationSnapshot, play_population
from rlstm.evolution.readout_choice import Solver
from rlstm.evolution.readouts import Readout
from rlstm.evolution.teacher_sequences import TeacherSequences
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.adapter import SteppedEnvs, VectorEnvs

__all__ = ["EvolvedParameters", "FitnessEvaluator", "FitnessResult", "shard_sizes"]

_LANES_OF_A_SHARD = {"native": 256}  # By the kind of the vector env: enough for a step to be worth its overhead.
_FEWEST_LANES = 16
_MOST_SHARDS = 16


class EvolvedParameters:
    """What of a policy evolves, and how that becomes all its acting weights.

    Args:
        policy: Its weights are those that don't evolve.
        readout: Whether the readout evolves.
        memory: Whether encoder and cell evolve.
        biases: Whether biases do; if not they are 0.
        input_gain: What the genes of weights that read the inputs are multiplied by.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        *,
        readout: bool,
        memory: bool = True,
        biases: bool = True,
        input_gain: float = 1.0,
    ) -> None:
        self.evolved = ParameterLayout(policy, readout=readout, memory=memory, biases=biases, input_gain=input_gain)
        self.whole = ParameterLayout(policy)
        self._head = f"policy_head.{len(policy.policy_head) - 1}"
        kept = {} if memory else {name: value.detach().double().cpu() for name, value in policy.named_parameters()}
        self._fixed = {gene.name: kept[gene.name].clone() for gene in self.whole.genes if gene.name in kept}

    def complete(self, genomes: Tensor, readouts: Readout | None) -> Tensor:
        """Return all acting weights ``(P, N)``; what is not finite in a readout is 0.

        Args:
            genomes: Of what evolves.
            readouts: Where the readout doesn't evolve.
        """
        count = len(genomes)
        parts = {name: value.expand(count, *value.shape) for name, value in self._fixed.items()}
        parts |= self.evolved.split(genomes)
        if readouts is not None:
            parts[f"{self._head}.weight"] = readouts.weight.transpose(1, 2).nan_to_num(0.0).cpu()
            parts[f"{self._head}.bias"] = readouts.bias.squeeze(1).nan_to_num(0.0).cpu()
        return torch.cat([parts[gene.name].reshape(count, -1) for gene in self.whole.genes], 1)

    def untrained(self, genomes: Tensor) -> Tensor:
        """Return all acting weights ``(P, N)`` with readouts of 0: whoever samples by them explores."""
        (outputs, features) = next(gene.shape for gene in self.whole.genes if gene.name == f"{self._head}.weight")
        zeros = torch.zeros(len(genomes), features + 1, outputs, dtype=torch.float64)
        return self.complete(genomes, Readout(zeros[:, 1:], zeros[:, :1], torch.full((len(genomes),), torch.nan)))


class FitnessResult(NamedTuple):
    """What P genomes did."""

    genomes: Tensor  # (P, N) all acting weights
    returns: npt.NDArray[np.float64]  # (P, K); of an exam minus errors, see ``FitnessEvaluator.examine``
    lengths: npt.NDArray[np.int64]  # (P, K)
    successes: npt.NDArray[np.float64]  # (P, K) 1, 0, or NaN where the env doesn't say
    clipped: npt.NDArray[np.int64]  # (P, K) steps whose action was clipped to the bounds of its space
    conditions: Tensor  # (P,) of what was solved; NaN where nothing was
    failed: BoolArray  # (P,) whose memory is not finite

    @property
    def fitness(self) -> Tensor:
        """Mean returns ``(P,)``, -∞ for those that failed."""
        means = torch.from_numpy(self.returns.mean(axis=1))
        return means.masked_fill(torch.from_numpy(self.failed), -torch.inf)

    def metrics(self) -> dict[str, float]:
        """Return by their tags what a generation is worth; those of who failed count as failures alone."""
        finite = self.fitness[self.fitness.isfinite()]
        metrics = {
            "evolino/diversity": float(self.genomes.std(0).mean()),
            "evolino/failed": float(len(self.genomes) - len(finite)),
            "evolino/evaluations": float(len(self.genomes)),
        }
        if len(finite):
            metrics |= {
                "evolino/best": float(finite.max()),
                "evolino/mean": float(finite.mean()),
                "evolino/median": float(finite.median()),
            }
        conditions = self.conditions[~self.conditions.isnan()]
        if len(conditions):
            metrics["evolino/readout_condition"] = float(conditions.median())
        return metrics

    @staticmethod
    def join(parts: Sequence[FitnessResult]) -> FitnessResult:
        """Return the verdicts of shards as one."""
        if len(parts) == 1:
            return parts[0]
        genomes, returns, lengths, successes, clipped, conditions, failed = zip(*parts, strict=True)
        return FitnessResult(
            torch.cat(genomes),
            np.concatenate(returns),
            np.concatenate(lengths),
            np.concatenate(successes),
            np.concatenate(clipped),
            torch.cat(conditions),
            np.concatenate(failed),
        )


def shard_sizes(population: int, lanes: int, kind: str) -> list[int]:
    """Return how many genomes each shard holds, for ``lanes`` of each genome: a matter of these numbers alone.

    Args:
        population: Genomes.
        lanes: Environments of each.
        kind: Of the vector env: where every env is stepped by itself, small shards cost nothing.
    """
    smallest = max(_LANES_OF_A_SHARD.get(kind, _FEWEST_LANES), 1)
    shards = min(max(1, population * lanes // smallest), _MOST_SHARDS, population)
    return [len(part) for part in np.array_split(np.arange(population), shards)]


@dataclass
class FitnessEvaluator:
    """Plays genomes and solves their readouts.

    Args:
        policy: Whose spaces, inputs and sizes all have.
        genotype: What evolves.
        make_envs: Makes so many lanes.
        solve: How readouts are solved; ``None`` where they evolve.
    """

    policy: RecurrentPolicy
    genotype: EvolvedParameters
    make_envs: Callable[[int], VectorEnvs]
    solve: Solver | None = None

    def __post_init__(self) -> None:
        """Begin without envs."""
        self._envs: dict[int, VectorEnvs] = {}

    def envs(self, num_lanes: int) -> VectorEnvs:
        """Return so many lanes; they are made once."""
        if num_lanes not in self._envs:
            self._envs[num_lanes] = self.make_envs(num_lanes)
        return self._envs[num_lanes]

    def close(self) -> None:
        """Close all envs."""
        while self._envs:
            self._envs.popitem()[1].close()

    @torch.inference_mode()
    def judge(
        self,
        genomes: Tensor,
        lessons: TeacherSequences | None,
        seeds: Sequence[int],
        episodes: int,
        exam: TeacherSequences | None = None,
    ) -> FitnessResult:
        """Complete genomes ``(P, N)`` and play them, or examine them: one shard.

        Args:
            genomes: Of what evolves.
            lessons: Where readouts are solved.
            seeds: One for each lane of a genome.
            episodes: Of a lane.
            exam: Other lessons; with them nothing is played.
        """
        readouts = None
        if self.solve is not None:
            if lessons is None:
                raise ValueError("Readouts are to be solved, but there are no lessons.")
            readouts = self.solve(*self.features(genomes, lessons))
        whole = self.genotype.complete(genomes, readouts)
        if exam is not None:
            return self.examine(whole, readouts, exam)
        return self.play(whole, readouts, seeds, episodes)

    @torch.inference_mode()
    def play(self, whole: Tensor, readouts: Readout | None, seeds: Sequence[int], episodes: int) -> FitnessResult:
        """Play genomes with all their acting weights ``(P, N)``."""
        whole, failed, conditions = _sound(whole, readouts)
        envs = self.envs(len(whole) * len(seeds))
        result = play_population(self.policy, self.genotype.whole, whole, envs, seeds=seeds, episodes=episodes)
        shape = (len(whole), -1)
        return FitnessResult(
            whole,
            result.returns.reshape(shape),
            result.lengths.reshape(shape),
            result.successes.reshape(shape),
            result.clipped.reshape(shape),
            conditions,
            failed.numpy(),
        )

    def explore(self, whole: Tensor, seeds: Sequence[int], episodes: int, generator: torch.Generator) -> Demonstrations:
        """Let genomes with all their acting weights ``(P, N)`` play with noise; returns their lives, as executed.

        Args:
            whole: The genomes.
            seeds: P·E, one a lane: each of their own, so that there is more to be seen.
            episodes: Of a lane.
            generator: Draws the actions.
        """

        def play(lanes: SteppedEnvs) -> EvaluationResult:
            layout = self.genotype.whole
            return play_population(
                self.policy, layout, whole, lanes, seeds=seeds, episodes=episodes, generator=generator
            )

        envs = self.envs(len(seeds))
        quotas = np.full(envs.num_envs, episodes)
        return recorded(play, envs, quotas, self.policy.memory, {"deterministic": False})

    @torch.inference_mode()
    def examine(self, whole: Tensor, readouts: Readout | None, exam: TeacherSequences) -> FitnessResult:
        """Let genomes with all their acting weights ``(P, N)`` answer in lessons.

        What counts as the return of lesson k, of K, is -K Σ e² / R with the sum over its answers and R the answers in
        all lessons: the mean over lessons is minus the mean squared error of an answer. Nobody says what a success is.
        """
        whole, failed, conditions = _sound(whole, readouts)
        snapshot = PopulationSnapshot(self.policy, self.genotype.whole, whole)
        population, (steps, count) = len(whole), exam.is_first.shape
        state = snapshot.init_state(population * count)
        errors = torch.zeros(population, count, dtype=torch.float64, device=self.policy.device)
        targets, weights = exam.targets.to(errors.device), exam.weights.to(errors.device)
        total = float(weights.sum()) * targets.shape[-1]
        if total == 0:
            raise EnvironmentFailure("The exam asks nothing: no step has a target, or the washout covers them all.")
        for step in range(steps):
            inputs = tree_map(lambda leaf, step=step: _tiled(leaf[step], population), exam.inputs)
            answers, state = snapshot.answer(inputs, state, _tiled(exam.is_first[step], population))
            squares = (answers.view(population, count, -1).double() - targets[step]).square().sum(-1)
            errors += torch.where(weights[step] > 0, squares * weights[step], 0.0)
        lengths = (weights > 0).sum(0).cpu().numpy()
        shape = (population, count)
        return FitnessResult(
            whole,
            -errors.cpu().numpy() * (count / total),
            np.broadcast_to(lengths, shape).copy(),
            np.full(shape, np.nan),
            np.zeros(shape, dtype=np.int64),
            conditions,
            failed.numpy(),
        )

    def features(self, genomes: Tensor, lessons: TeacherSequences) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the readouts of genomes ``(P, N)`` read in the lessons, where something is asked.

        Returns:
            Features ``(P, R, H)``, targets ``(R, Y)`` and weights ``(R,)``, R the steps at which something is asked.
        """
        snapshot = PopulationSnapshot(self.policy, self.genotype.evolved, genomes)
        population, (steps, count) = len(genomes), lessons.is_first.shape
        state = snapshot.init_state(population * count)
        asked = lessons.weights > 0
        rows = int(asked.sum())
        if rows == 0:
            raise EnvironmentFailure("The lessons ask nothing: no step has a target, or the washout covers them all.")
        kept: list[Tensor] = []
        for step in range(steps):
            inputs = tree_map(lambda leaf, step=step: _tiled(leaf[step], population), lessons.inputs)
            features, state = snapshot.remember(inputs, state, _tiled(lessons.is_first[step], population))
            if bool(asked[step].any()):
                kept.append(features.view(population, count, -1)[:, asked[step]])
        device = self.policy.device
        return torch.cat(kept, 1).double(), lessons.targets[asked].to(device), lessons.weights[asked].to(device)


def _sound(whole: Tensor, readouts: Readout | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return genomes ``(P, N)``, zeros for those that failed, who failed ``(P,)``, and what was solved's condition."""
    failed = ~whole.isfinite().all(1)
    conditions = torch.full((len(whole),), torch.nan, dtype=torch.float64)
    if readouts is not None:
        failed |= ~readouts.weight.isfinite().flatten(1).all(1).cpu()
        conditions = readouts.condition.cpu()
    return whole.masked_fill(failed.unsqueeze(1), 0.0), failed, conditions


def _tiled(leaf: Tensor, population: int) -> Tensor:
    """Return the lanes ``(S, ...)`` once for every policy, ``(P·S, ...)``."""
    return leaf.repeat(population, *(1,) * (leaf.dim() - 1))
