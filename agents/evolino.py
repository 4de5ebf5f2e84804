"""Evolino: evolve the memory; solve the readout where there is a teacher, evolve it too where there is none.

Sources: Schmidhuber, Wierstra, Gagliolo, Gomez, *Training recurrent networks by Evolino*, Neural Computation 19(3),
2007; with support vectors (Evoke) Schmidhuber, Gagliolo, Wierstra, Gomez, IDSIA-19-05, 2005; without a teacher Gomez &
Schmidhuber, *Co-evolving recurrent neurons learn deep memory POMDPs*, GECCO 2005.

Implementation details, each with its reason:

1.  A genome is the weights of encoder and memory, and with ``readout`` joint the policy head's too. For ESP a memory
    cell's incoming weights (and outgoing ones, if they evolve) are one chromosome, as in the papers.
2.  With a teacher (``info["target"]`` at the steps of the env, or demonstrations) every genome reads the same teacher
    sequences, previous answers forced to the teacher's, and its readout is solved in closed form in float64. Then it
    plays episodes on other seeds, alone: its fitness is the mean return, not the error of the fit. With ``fitness``
    error it is minus the mean squared error of its answers in teacher sequences on other seeds, as in the papers: where
    answers are sets or classes that goes on telling better from good when all are right.
3.  With ``readout`` rwr the best episodes of all generations are the teacher: a readout is solved from what was done in
    them, weighted by return (``rlstm.evolution.elite_archive``). First an untrained policy explores; then, after every
    generation, its best quarter plays again with noise, on fresh seeds. Fitness is without noise.
4.  All genomes of a generation play under the same seeds, so that none is lucky, the next generation under others.
5.  The champion stays until a better genome is found. One that looks better than the champion's score has to prove it:
    both, and the strategy's own centre, play the same fresh seeds, and the best becomes, or stays, champion. Its score
    is the mean of all that it played there, so a lucky generation is no record.
6.  Observation normalisers, if wanted, are filled by the first episodes of an untrained policy and then stay: with
    other statistics a champion would act differently.
7.  Genomes begin around 0, not around a network's usual initial weights; ``--init-from`` begins around a trained one.
8.  Evolution has no critic, no discount and no gradient: these settings mean nothing here.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstm.agents.configs.evolino import READ_BY, EvolinoConfig
from rlstm.core.ranks import ALONE, Ranks
from rlstm.core.seeding import Stream, generator, integer_seeds
from rlstm.evaluation.demonstrations import Demonstrations
from rlstm.evaluation.teacher_sequences import (
    TeacherSequences,
    forces_answers,
    play_teacher_sequences,
    teacher_sequences_from_demonstrations,
)
from rlstm.evolution.elite_archive import EliteArchive
from rlstm.evolution.fitness import FitnessEvaluator, FitnessResult
from rlstm.evolution.normalisers import fill_normalisers
from rlstm.evolution.parameters import EvolvedParameters, ParameterLayout
from rlstm.evolution.readouts import Solver, least_squares, ridge, svm
from rlstm.evolution.strategies import STRATEGIES, Strategy
from rlstm.evolution.strategies.restarts import Restarts
from rlstm.policies.policy import RecurrentPolicy
from rlstm.training.generations import Evolution
from rlstm.vector.env_pool import EnvPool

_STATE = ("champion", "champion_return", "champion_success", "champion_episodes", "alike", "varied")
_NARROW, _WIDE = 0.1, 3.0  # Deviations of the first generation if none is set, see ``EvolinoConfig.sigma``.
_EQUAL_GENERATIONS = 20  # Generations of equal fitness after which a warning is due.


class Evolino:
    """Owns a strategy and the champion.

    Args:
        policy: What evolves; its weights become the champion's.
        config: The algorithm's constants.
        envs: Gives envs by their number.
        num_envs: Environments E of each genome.
        total_steps: Not read: nothing is scheduled.
        seed: Of everything random.

    Raises:
        ValueError: If a readout needs a teacher that isn't there, or more than the memory's output, or the strategy
            refuses its sizes.
    """

    run_type = Evolution

    def __init__(
        self,
        policy: RecurrentPolicy,
        config: EvolinoConfig,
        *,
        envs: EnvPool,
        num_envs: int,
        total_steps: int,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.policy, self.config, self.envs, self.num_envs, self.seed = policy, config, envs, num_envs, seed
        self.demonstrations = None if config.demonstrations is None else Demonstrations.load(config.demonstrations)
        forces = forces_answers(envs(num_envs))
        self.readout = config.choose_readout(has_teacher=self._has_teacher(), forces=forces)
        penalised = partial(ridge, strength=config.ridge_strength)
        solvers: dict[str, Solver] = {"lstsq": least_squares, "ridge": penalised, "svm": svm, "rwr": penalised}
        self.solve = solvers.get(self.readout)  # None where the readout evolves.
        self.archive = EliteArchive(config.elite_episodes) if self.readout == "rwr" else None
        self.strategy_name = "cma-es" if self.readout == "cma" else config.strategy
        config.check_run(
            strategy=self.strategy_name,
            readout=self.readout,
            is_solved=self.solve is not None,
            forces=forces,
            device=str(policy.device),
            head_sizes=policy.config.head_sizes,
        )
        genes = {"readout": self.solve is None, "memory": self.readout != "cma", "biases": config.biases}
        evolved = ParameterLayout(policy, **genes, input_gain=config.input_gain)
        self.parameters = EvolvedParameters(policy, evolved)
        self.evaluator = FitnessEvaluator(policy, self.parameters, envs, self.solve, config.workers, ranks)
        sigma = _WIDE if self.readout == "joint" else _NARROW
        self.strategy = self._make_strategy(torch.zeros(evolved.num_genes, dtype=torch.float64), sigma)
        self.champion: Tensor | None = None  # (N,) all acting weights
        self.champion_return, self.champion_success, self.champion_episodes = -math.inf, math.nan, 0
        self.alike, self.varied = 0, False

    def update(self, generation: int, step: int) -> tuple[dict[str, float], int, dict[str, float]]:
        """Evolve by one generation.

        Args:
            generation: Its number, from 0 on; decides its seeds.
            step: Environment steps before it.

        Returns:
            Metrics by their names, environment steps taken, and seconds by phase.
        """
        began, num_steps = time.perf_counter(), 0
        if generation == 0 and self.policy.lacks_statistics:
            seeds = self._seeds("envs", self.num_envs)
            num_steps += fill_normalisers(self.policy, self.envs(self.num_envs), seeds)

        # Ask for genomes (P, N), and get what their readouts are solved from.
        genomes = self.strategy.ask()
        sequences, held_out, steps = self._teacher_sequences(genomes, generation)

        # Evaluate all under the same seeds, each with its own readout.
        seeds = self._seeds("generations", self.num_envs, generation)
        result = self.evaluator.evaluate(genomes, sequences, seeds, self._episodes(self.config.episodes), held_out)
        num_steps += steps + result.num_steps
        played = time.perf_counter()

        # Tell the strategy.
        self.strategy.tell(result.fitness)
        self._warn_of_equal_fitness(result.fitness)

        # Compare those that look better with the champion, on fresh seeds.
        candidates = self.candidates(result)
        if candidates is not None:
            confirmed = self._confirm(candidates, generation)
            self.choose_champion(confirmed)
            num_steps += confirmed.num_steps

        # Explore around the best, in search of better trajectories to imitate.
        if self.archive is not None:
            num_steps += self._explore(self.archive, self.explorers(result), generation + 1)

        metrics = self._metrics(result, generation + 1, step + num_steps)
        return metrics, num_steps, {"play": played - began, "learn": time.perf_counter() - played}

    def _teacher_sequences(
        self, genomes: Tensor, generation: int
    ) -> tuple[TeacherSequences | None, TeacherSequences | None, int]:
        """Return what readouts of genomes ``(P, N)`` are solved from, what errors are measured in, and steps taken."""
        policy, config = self.policy, self.config
        if self.solve is None:
            return None, None, 0
        if self.archive is not None:
            is_empty = self.archive.trajectories is None
            steps = self._explore(self.archive, self.parameters.untrained(genomes), 0) if is_empty else 0
            return self.archive.teacher_sequences(policy, washout=config.washout or 0), None, steps
        if self.demonstrations is not None:
            washout = config.washout or 0
            return teacher_sequences_from_demonstrations(policy, self.demonstrations, washout=washout), None, 0
        seeds = self._seeds("lessons", config.teacher_sequences, generation)
        if config.fitness == "error":
            seeds += self._seeds("generations", self.num_envs, generation)
        played = play_teacher_sequences(policy, self.envs(len(seeds)), seeds, washout=config.washout)
        sequences, held_out = played.split(config.teacher_sequences)
        return sequences, held_out if config.fitness == "error" else None, played.num_steps

    def candidates(self, result: FitnessResult) -> Tensor | None:
        """Return what may become champion, ``(C, N)``: the generation's best, the strategy's centre, the champion.

        None if the best does not look better than the champion's score.
        """
        best = int(result.fitness.argmax())
        if not math.isfinite(float(result.fitness[best])) or float(result.fitness[best]) <= self.champion_return:
            return None
        rows = [result.genomes[best]]
        if self.solve is None:
            rows.append(self.parameters.complete(self.strategy.centre.unsqueeze(0), None)[0])
        if self.champion is not None:
            rows.append(self.champion)
        return torch.stack(rows)

    def _confirm(self, candidates: Tensor, generation: int) -> FitnessResult:
        """Evaluate candidates ``(C, N)`` on fresh seeds."""
        seeds = self._seeds("confirmations", self.config.confirm_episodes, generation)
        if self.config.fitness == "error":
            envs = self.envs(len(seeds))
            held_out = play_teacher_sequences(self.policy, envs, seeds, washout=self.config.washout)
            return self.evaluator.held_out_errors(candidates, None, held_out)
        return self.evaluator.play(candidates, None, seeds, self._episodes(1))

    def choose_champion(self, confirmed: FitnessResult) -> None:
        """Make the best of the candidates champion; of equals the present one."""
        fitness = confirmed.fitness
        incumbent = len(fitness) - 1 if self.champion is not None else None
        best = int(fitness.argmax())
        if incumbent is not None and float(fitness[best]) <= float(fitness[incumbent]):
            best = incumbent
        if best != incumbent:
            self.champion = confirmed.genomes[best].clone()
            self.champion_return, self.champion_success, self.champion_episodes = 0.0, 0.0, 0
            self.parameters.whole.write(self.policy, self.champion)
        count = confirmed.returns.shape[1]
        share = count / (self.champion_episodes + count)
        self.champion_return += share * (float(fitness[best]) - self.champion_return)
        self.champion_success += share * (float(confirmed.successes[best].mean()) - self.champion_success)
        self.champion_episodes += count

    def explorers(self, result: FitnessResult) -> Tensor:
        """Return the genomes that play again with noise, ``(C, N)``: the generation's best quarter, if not failed."""
        ranks = result.fitness.argsort(descending=True, stable=True)[: max(1, len(result.genomes) // 4)]
        return result.genomes[ranks[result.fitness[ranks].isfinite()]]

    def _explore(self, archive: EliteArchive, whole: Tensor, index: int) -> int:
        """Offer the archive what genomes ``(C, N)`` with all their acting weights do with noise; returns the steps."""
        if not len(whole):
            return 0
        seeds = self._seeds("explorations", len(whole) * self.num_envs, index)
        noise = generator(self.seed, "explorations_actions", self.policy.device, index)
        trajectories = self.evaluator.record(whole, seeds, self._episodes(1), noise)
        archive.offer(trajectories)
        return trajectories.num_steps

    def _seeds(self, stream: Stream, count: int, generation: int | None = None) -> list[int]:
        return integer_seeds(self.seed, stream, count, generation)

    def _episodes(self, episodes: int) -> int:
        """Return the episodes of an env: as many trials where there are trials."""
        return episodes * (self.policy.memory.episodes_per_trial or 1)

    def _has_teacher(self) -> bool:
        """Whether there are demonstrations, or the untrained policy meets a target in its first episodes."""
        if self.demonstrations is not None or self.config.readout in ("joint", "cma"):
            return self.demonstrations is not None
        seeds = self._seeds("lessons", self.num_envs)
        return not play_teacher_sequences(self.policy, self.envs(self.num_envs), seeds, washout=0).is_empty

    def _make_strategy(self, mean: Tensor, default_sigma: float) -> Strategy:
        """Return the strategy before its first generation, which lies around ``mean`` ``(N,)``."""
        config = self.config
        sigma = default_sigma if config.sigma is None else config.sigma
        kind: Any = STRATEGIES[self.strategy_name]
        settings = [name for name, readers in READ_BY.items() if self.strategy_name in readers]
        options = {name.removeprefix("es_"): getattr(config, name) for name in settings}
        if kind.has_groups:
            options["groups"] = self.parameters.evolved.groups(self.policy)
        draws = generator(self.seed, "minibatches")
        begin: Callable[[], Strategy] = partial(
            kind, mean, population=config.population, sigma=sigma, generator=draws, **options
        )
        begin()  # A seed stands for the second draw, as in runs of earlier versions.
        return begin() if config.patience is None else Restarts(begin, generator=draws, patience=config.patience)

    def begin_around_weights(self) -> None:
        """Draw the first generation around the policy's present weights instead of around 0."""
        self.strategy = self._make_strategy(self.parameters.evolved.read(self.policy), _NARROW)

    def _warn_of_equal_fitness(self, fitness: Tensor) -> None:
        """Warn if all genomes have been equally good for long, unless they are as good as the champion."""
        fitness = fitness[fitness.isfinite()]
        value = float(fitness[0]) if len(fitness) else -math.inf
        alike = len(fitness) == 0 or bool((fitness == value).all())
        self.varied |= not alike
        taught = self.solve is not None and self.archive is None
        solved = (self.varied or taught) and value >= self.champion_return
        self.alike = self.alike + 1 if alike and not solved else 0
        if self.alike == _EQUAL_GENERATIONS:
            warnings.warn(
                f"For {_EQUAL_GENERATIONS} generations all {self.strategy.population} genomes were worth the same, "
                f"{value:.4g}: there is nothing to select. Try a larger --sigma or --population, more --num-envs or "
                "--episodes, or a reward that tells near misses from far ones.",
                stacklevel=3,
            )

    def _metrics(self, result: FitnessResult, generations: int, env_steps: int) -> dict[str, float]:
        """Return by their names what a generation, the strategy, the champion and the archive are worth."""
        own = result.statistics() | self.strategy.statistics() | self._champion_metrics()
        if self.archive is not None:
            returns = self.archive.returns
            own |= {"elites": len(returns), "elites_mean": returns.mean(), "elites_worst": returns[-1]}
        metrics = {f"evolino/{name}": float(value) for name, value in own.items()}
        metrics["rollout/ep_len_mean"] = float(result.lengths.mean())
        metrics |= {"evolino/generations": float(generations), "evolino/env_steps": float(env_steps)}
        if self.policy.distribution.clips:
            metrics["evolino/clipped"] = float(result.clipped.sum() / result.lengths.sum())
        if self.config.fitness == "return":  # An error is no return.
            metrics["rollout/ep_rew_mean"] = float(result.returns.mean())
        if not np.isnan(result.successes).all():
            metrics["rollout/success_rate"] = float(np.nanmean(result.successes))
        return metrics

    def _champion_metrics(self) -> dict[str, float]:
        """Return what the champion was worth on fresh seeds."""
        if self.champion is None:
            return {}
        success = {} if math.isnan(self.champion_success) else {"champion_success_rate": self.champion_success}
        return {"champion": self.champion_return, **success}

    def recent_metrics(self) -> dict[str, float]:
        """Return the champion's mean return and success rate by their names, where returns are what counts."""
        names = {"champion": "rollout/ep_rew_mean", "champion_success_rate": "rollout/success_rate"}
        metrics = self._champion_metrics() if self.config.fitness == "return" else {}
        return {names[name]: value for name, value in metrics.items()}

    def facts(self) -> dict[str, str]:
        """Return what a display shows before the run begins."""
        genes, population = self.parameters.evolved.num_genes, self.strategy.population
        return {
            "evolution": f"{self.strategy_name}, {population} genomes of {genes} genes, readout {self.readout}",
            "memory": f"lifetime {self.policy.memory.lifetime}",
            "workers": str(self.config.workers),
        }

    def close(self) -> None:
        """Stop the workers."""
        self.evaluator.close()

    def state_dict(self) -> dict[str, Any]:
        """Return all but the policy's weights."""
        return {
            "strategy": self.strategy.state_dict(),
            **{name: getattr(self, name) for name in _STATE},
            "action_generator": self.policy.generator.get_state(),
            "elites": None if self.archive is None else self.archive.state_dict(),
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self.strategy.load_state_dict(values["strategy"])
        for name in _STATE:
            setattr(self, name, values[name])
        self.policy.generator.set_state(values["action_generator"])
        if self.archive is not None:
            self.archive.load_state_dict(values["elites"])
