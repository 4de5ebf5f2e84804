"""How good genomes are: readouts are solved from teacher sequences, then episodes are played under common seeds.

Where errors count, nothing is played: the readouts answer in other teacher sequences, from which nothing was solved.

A generation is evaluated in shards that its size alone decides, so that the result is the same to the last bit however
many processes share them (``rlstm.evolution.workers``).

Letters in shapes: P = genomes, N = genes, K = episodes of each genome, or held-out sequences, S = sequences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlstm.cells import State
from rlstm.core.arrays import BoolArray
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.ranks import ALONE, Ranks
from rlstm.core.trees import tree_map
from rlstm.evaluation.demonstrations import Demonstrations
from rlstm.evaluation.evaluate import EvaluationResult
from rlstm.evaluation.record import recorded
from rlstm.evaluation.teacher_sequences import TeacherSequences
from rlstm.evolution.parameters import EvolvedParameters
from rlstm.evolution.population import PopulationSnapshot, play_population
from rlstm.evolution.readouts import Readout, Solver
from rlstm.evolution.workers import Workers
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.adapter import SteppedEnvs
from rlstm.vector.env_pool import EnvPool

_ENVS_OF_A_SHARD = {"native": 256}  # By the kind of the vector env: enough for a step to be worth its overhead.
_FEWEST_ENVS = 16
_MOST_SHARDS = 16


class FitnessResult(NamedTuple):
    """What P genomes did."""

    genomes: Tensor  # (P, N) all acting weights
    returns: npt.NDArray[np.float64]  # (P, K); or minus errors, see ``FitnessEvaluator.held_out_errors``
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

    @property
    def num_steps(self) -> int:
        """Environment steps of all episodes."""
        return int(self.lengths.sum())

    def statistics(self) -> dict[str, float]:
        """Return numbers about the generation by name; genomes that failed count as failed alone."""
        finite = self.fitness[self.fitness.isfinite()]
        conditions = self.conditions[~self.conditions.isnan()]
        diversity, population = float(self.genomes.std(0).mean()), len(self.genomes)
        found = {"diversity": diversity, "failed": float(population - len(finite)), "evaluations": float(population)}
        if len(finite):
            found |= {"best": float(finite.max()), "mean": float(finite.mean()), "median": float(finite.median())}
        if len(conditions):
            found["readout_condition"] = float(conditions.median())
        return found

    @staticmethod
    def join(parts: Sequence[FitnessResult]) -> FitnessResult:
        """Return the results of shards as one."""
        if len(parts) == 1:
            return parts[0]
        columns: Any = zip(*parts, strict=True)
        joined: Any = [torch.cat(one) if torch.is_tensor(one[0]) else np.concatenate(one) for one in columns]
        return FitnessResult(*joined)


def shard_sizes(population: int, num_envs: int, kind: str) -> list[int]:
    """Return how many genomes each shard holds: a matter of genomes, envs of each and the kind of vector env alone.

    Where every env is stepped by itself, small shards cost nothing.
    """
    smallest = max(_ENVS_OF_A_SHARD.get(kind, _FEWEST_ENVS), 1)
    shards = min(max(1, population * num_envs // smallest), _MOST_SHARDS, population)
    return [len(part) for part in np.array_split(np.arange(population), shards)]


@dataclass
class FitnessEvaluator:
    """Solves the readouts of genomes and plays them.

    Args:
        policy: Its spaces, inputs, normalisers and sizes are those of all genomes.
        parameters: What evolves.
        envs: Gives envs by their number.
        solve: How readouts are solved; ``None`` where they evolve.
        num_workers: Processes that share a rank's part of a generation.
        ranks: Those that share a generation: genomes are known to each, what they are worth is sent.
    """

    policy: RecurrentPolicy
    parameters: EvolvedParameters
    envs: EnvPool
    solve: Solver | None = None
    num_workers: int = 1
    ranks: Ranks = ALONE
    _workers: Workers | None = field(default=None, init=False, repr=False)

    def close(self) -> None:
        """Stop the workers; the envs are left to those that gave them."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def evaluate(
        self,
        genomes: Tensor,
        sequences: TeacherSequences | None,
        seeds: Sequence[int],
        episodes: int,
        held_out: TeacherSequences | None = None,
    ) -> FitnessResult:
        """Evaluate a generation ``(P, N)``, shard by shard, here, in workers or in other ranks.

        Args:
            genomes: Of what evolves.
            sequences: From which readouts are solved.
            seeds: One for each env of a genome, the same for all genomes.
            episodes: Of an env.
            held_out: Sequences in which errors are measured; with them nothing is played.
        """
        kind = self.envs(len(seeds)).kind
        shards = genomes.split(shard_sizes(len(genomes), len(seeds), kind))
        parts = [(shard, sequences, seeds, episodes, held_out) for shard in shards]
        rank, count = self.ranks.rank, self.ranks.count
        gathered = self.ranks.gather(self._evaluate_parts(parts[rank::count]))
        return FitnessResult.join([gathered[index % count][index // count] for index in range(len(parts))])

    def _evaluate_parts(self, parts: Sequence[tuple[Any, ...]]) -> list[FitnessResult]:
        """Evaluate shards, given by the arguments of ``evaluate_shard``, here or in workers."""
        if self.num_workers == 1 or len(parts) <= 1:
            return [self.evaluate_shard(*part) for part in parts]
        if self._workers is None:
            compute = dataclasses.replace(self, num_workers=1, ranks=ALONE).evaluate_shard
            self._workers = Workers(self.num_workers, compute)
        return self._workers.map(parts)

    @torch.inference_mode()
    def evaluate_shard(
        self,
        genomes: Tensor,
        sequences: TeacherSequences | None,
        seeds: Sequence[int],
        episodes: int,
        held_out: TeacherSequences | None = None,
    ) -> FitnessResult:
        """Evaluate one shard; see ``evaluate``."""
        readouts = None
        if self.solve is not None:
            if sequences is None:
                raise ValueError("Readouts are to be solved, but there are no teacher sequences.")
            readouts = self.solve(*self.features(genomes, sequences))
        whole = self.parameters.complete(genomes, readouts)
        if held_out is not None:
            return self.held_out_errors(whole, readouts, held_out)
        return self.play(whole, readouts, seeds, episodes)

    @torch.inference_mode()
    def play(self, whole: Tensor, readouts: Readout | None, seeds: Sequence[int], episodes: int) -> FitnessResult:
        """Play genomes with all their acting weights ``(P, N)``."""
        whole, failed, conditions = _without_failed(whole, readouts)
        envs = self.envs(len(whole) * len(seeds))
        result = play_population(self.policy, self.parameters.whole, whole, envs, seeds=seeds, episodes=episodes)
        returns, lengths = result.returns.reshape(len(whole), -1), result.lengths.reshape(len(whole), -1)
        successes, clipped = result.successes.reshape(returns.shape), result.clipped.reshape(returns.shape)
        return FitnessResult(whole, returns, lengths, successes, clipped, conditions, failed.numpy())

    def record(self, whole: Tensor, seeds: Sequence[int], episodes: int, generator: torch.Generator) -> Demonstrations:
        """Let genomes with all their acting weights ``(P, N)`` play with noise; returns their trajectories.

        There are P·E seeds, one for each env: all different, so that there is more to be seen.
        """
        policy, layout = self.policy, self.parameters.whole
        options: Any = {"seeds": seeds, "episodes": episodes, "generator": generator}

        def play(envs: SteppedEnvs) -> EvaluationResult:
            return play_population(policy, layout, whole, envs, **options)

        envs = self.envs(len(seeds))
        return recorded(play, envs, np.full(envs.num_envs, episodes), self.policy.memory, {"deterministic": False})

    @torch.inference_mode()
    def held_out_errors(self, whole: Tensor, readouts: Readout | None, held_out: TeacherSequences) -> FitnessResult:
        """Let genomes with all their acting weights ``(P, N)`` answer in teacher sequences.

        What counts as the return of sequence k, of K, is -K Σ e² / R with the sum over its answers and R the answers in
        all sequences: the mean over sequences is minus the mean squared error of an answer. Successes are unknown.

        Raises:
            EnvironmentFailure: If the sequences ask nothing.
        """
        whole, failed, conditions = _without_failed(whole, readouts)
        snapshot = PopulationSnapshot(self.policy, self.parameters.whole, whole)
        population, count = len(whole), held_out.is_first.shape[1]
        errors = torch.zeros(population, count, dtype=torch.float64, device=self.policy.device)
        targets, weights = held_out.targets.to(errors.device), held_out.weights.to(errors.device)
        total = float(weights.sum()) * targets.shape[-1]
        if total == 0:
            raise EnvironmentFailure(
                "The held-out sequences ask nothing: no step has a target, or the washout covers them all."
            )
        for step, answers in enumerate(_walk(snapshot.answer, snapshot, held_out, population)):
            squares = (answers.double() - targets[step]).square().sum(-1)
            errors += torch.where(weights[step] > 0, squares * weights[step], 0.0)
        shape = (population, count)
        returns = -errors.cpu().numpy() * (count / total)
        lengths = np.broadcast_to((weights > 0).sum(0).cpu().numpy(), shape).copy()
        unknown, clipped = np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
        return FitnessResult(whole, returns, lengths, unknown, clipped, conditions, failed.numpy())

    def features(self, genomes: Tensor, sequences: TeacherSequences) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the readouts of genomes ``(P, N)`` read in the sequences, where something is asked.

        Returns:
            Features ``(P, R, H)``, targets ``(R, Y)`` and weights ``(R,)``, R the steps at which something is asked.

        Raises:
            EnvironmentFailure: If nothing is asked.
        """
        snapshot = PopulationSnapshot(self.policy, self.parameters.evolved, genomes)
        asked = sequences.weights > 0
        if not bool(asked.any()):
            raise EnvironmentFailure(
                "The teacher sequences ask nothing: no step has a target, or the washout covers them all."
            )
        walk = enumerate(_walk(snapshot.remember, snapshot, sequences, len(genomes)))
        kept = [features[:, asked[step]] for step, features in walk if bool(asked[step].any())]
        device = self.policy.device
        return torch.cat(kept, 1).double(), sequences.targets[asked].to(device), sequences.weights[asked].to(device)


def _without_failed(whole: Tensor, readouts: Readout | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return genomes ``(P, N)``, zeros for those that failed, which failed ``(P,)``, and the readouts' conditions."""
    failed = ~whole.isfinite().all(1)
    conditions = torch.full((len(whole),), torch.nan, dtype=torch.float64)
    if readouts is not None:
        failed |= ~readouts.weight.isfinite().flatten(1).all(1).cpu()
        conditions = readouts.condition.cpu()
    return whole.masked_fill(failed.unsqueeze(1), 0.0), failed, conditions


def _walk(
    read: Callable[[PolicyInputs, State, Tensor], tuple[Tensor, State]],
    snapshot: PopulationSnapshot,
    sequences: TeacherSequences,
    population: int,
) -> Iterator[Tensor]:
    """Yield what a method of the snapshot returns at every step of the sequences, ``(P, S, Y)``."""
    steps, count = sequences.is_first.shape
    state = snapshot.init_state(population * count)
    for step in range(steps):
        # Every policy reads all sequences: (S, ...) becomes (P·S, ...).
        inputs, is_first = tree_map(
            lambda leaf, step=step: leaf[step].repeat(population, *(1,) * (leaf.dim() - 2)),
            (sequences.inputs, sequences.is_first),
        )
        outputs, state = read(inputs, state, is_first)
        yield outputs.view(population, count, -1)
