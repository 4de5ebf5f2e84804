"""A curriculum: stages that a run passes in order before it trains in its own env; see ``rlstm.training.stages``."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from gymnasium.envs.registration import EnvSpec

from rlstm.core.errors import EnvironmentFailure, UnknownNameError
from rlstm.core.number_text import number
from rlstm.rollouts.statistics import Outcome
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.stages import Stage, read_curriculum
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec
from rlstm.vector.references import references


class Curriculum:
    """The envs in which a run trains one after the other: those of its stages, then its own.

    Without a file there are no stages, and nothing is told or checked.

    Args:
        config: The experiment; ``run.curriculum`` names the file.
        spec: The run's own env.

    Raises:
        ConfigError: If the file or a stage makes no sense, or the envs' spaces differ.
        EnvironmentFailure: If the env of a stage can't be made.
    """

    def __init__(self, config: ExperimentConfig[Any], spec: EnvSpec) -> None:
        self.text: str | None = None  # Of the file.
        self.stages: tuple[Stage, ...] = ()
        self.number = 1  # Of the present stage; one more than there are where the run's own env is played.
        self.warnings: list[str] = []
        self._config, self._path, self._silent = config, config.run.curriculum, 0
        self._envs = [(spec, config.env)]  # In the order in which they are played.
        if self._path is None:
            return
        self.text, self.stages = read_curriculum(self._path)
        if config.run.eval_env == "same":
            raise ConfigError(
                "eval_env is 'same', but with a curriculum the training's envs are those of a stage, and evaluations "
                "play the run's own: use own, or none."
            )
        stages = enumerate(self.stages, start=1)
        self._envs = [*(self._env_of(index, stage, spec) for index, stage in stages), *self._envs]
        self._check_envs()

    @property
    def is_passed(self) -> bool:
        """Whether the run's own env is played."""
        return self._stage is None

    @property
    def asked_episodes(self) -> int:
        """How many episodes the present stage asks for; 0 behind the last one."""
        return 0 if self._stage is None else self._stage.episodes

    @property
    def most_episodes(self) -> int:
        """The most episodes that a stage asks for."""
        return max((stage.episodes for stage in self.stages), default=0)

    def make_envs(self, num_envs: int | None = None) -> VectorEnvs:
        """Make the envs of the present stage, as many as the run has unless told."""
        return make(*self._envs[self.number - 1], self._config.memory, num_envs=num_envs)

    def pass_stage(self, outcomes: Sequence[Outcome], step: int) -> str | None:
        """Go on to the next stage if the criterion of this one holds; returns that it does in a sentence, or None."""
        if self._stage is None or not self._stage.is_passed(outcomes):
            return None
        passed = f"Stage {self.number} of {len(self.stages)} passed at step {step:,}: {self._stage.told(outcomes)}"
        self.number += 1
        return f"{passed}; now {self._describe()}"

    def complaint(self, outcomes: Sequence[Outcome]) -> str | None:
        """Say once of a stage that its episodes never tell whether they were a success, or return None."""
        if self._stage is None or self._silent == self.number or not self._stage.says_nothing(outcomes):
            return None
        self._silent = self.number
        return (
            f"Stage {self.number} can never be passed: success is asked for, but the env's info has no is_success at "
            "the end of an episode. Ask for a mean_return in a new run."
        )

    def metrics(self) -> dict[str, float]:
        """Return the number of the stage by metric name."""
        return {"curriculum/stage": float(self.number)} if self.stages else {}

    def facts(self) -> dict[str, str]:
        """Return what a display shows of it."""
        if not self.stages:
            return {}
        if self._stage is None:
            return {"curriculum": f"all {len(self.stages)} stages passed"}
        place = f"stage {self.number} of {len(self.stages)}"
        return {"curriculum": f"{place}, {self._describe()} until {self._stage.criterion}"}

    def closing_words(self, outcomes: Sequence[Outcome]) -> str | None:
        """Return in which stage a run has ended, in a sentence, or None if it has passed them all."""
        if self._stage is None:
            return None
        place = f"stage {self.number} of {len(self.stages)}"
        if self._stage.is_passed(outcomes):
            return f"The run passed {place} with its last update, {self._stage.told(outcomes)}, and ended there."
        return (
            f"The curriculum was not passed: the run stayed in {place}, {self._describe()}, with "
            f"{self._stage.told(outcomes)}; it asks for {self._stage.criterion}."
        )

    @property
    def _stage(self) -> Stage | None:
        return self.stages[self.number - 1] if self.number <= len(self.stages) else None

    def _describe(self) -> str:
        """Return the present env in a few words."""
        if self._stage is None:
            return "the run's own env"
        words = [*([self._stage.env] if self._stage.env else ())]
        words += [f"{name}={json.dumps(value, default=str)}" for name, value in self._stage.env_kwargs.items()]
        return " ".join(words) or "the run's own env"

    def _env_of(self, index: int, stage: Stage, spec: EnvSpec) -> tuple[EnvSpec, EnvConfig]:
        """Return the env of a stage: with the wrappers, the number and the kind of the run's."""
        own = self._config.env
        if stage.env is None or stage.env.split(":")[-1] == own.env.split(":")[-1]:
            return spec, replace(own, env_kwargs={**own.env_kwargs, **stage.env_kwargs})
        config = replace(own, env=stage.env, env_kwargs=stage.env_kwargs)
        with self._naming(index):
            found = copy.copy(resolve_spec(config))
        wrappers = spec.additional_wrappers[len(spec.additional_wrappers) - len(own.env_wrappers) :]
        found.additional_wrappers = (*found.additional_wrappers, *wrappers)
        return found, config

    @contextmanager
    def _naming(self, index: int) -> Iterator[None]:
        """Name the stage where its env can't be made."""
        if index > len(self.stages):
            yield
            return
        place = f"Stage {index} of the curriculum {self._path}"
        try:
            yield
        except UnknownNameError as error:
            raise ConfigError(f"{place}: {error}") from error
        except EnvironmentFailure as error:
            raise EnvironmentFailure(f"{place}: {error} Change its env or env_kwargs.") from error

    def _check_envs(self) -> None:
        """Make one env of every stage: refuse what can't follow each other, warn of what can't be reached."""
        spaces = None
        for index in (len(self._envs), *range(1, len(self._envs))):  # The run's own first.
            spec, config = self._envs[index - 1]
            kind = "sync" if config.vectorization == "async" else config.vectorization
            with self._naming(index):
                envs = make(spec, replace(config, vectorization=kind), self._config.memory, num_envs=1)
            with closing(envs):
                found = {"observation": envs.observation_space, "action": envs.action_space}
                spaces = spaces or found
                for name, space in found.items():
                    if space != spaces[name]:
                        raise ConfigError(
                            f"Stage {index} of the curriculum {self._path}: its {name} space is {space}, that of the "
                            f"run's own env {spaces[name]}. All stages need the same: change its env or env_kwargs."
                        )
                if index <= len(self.stages):
                    self._warn(index, self._optimal_return(envs))

    def _optimal_return(self, envs: VectorEnvs) -> float | None:
        """Return the best return that the env declares; None under wrappers and in trials, where it doesn't hold."""
        if self._config.env.env_wrappers or (self._config.memory.episodes_per_trial or 1) > 1:
            return None
        inner: Any = envs.envs
        env = inner if envs.kind == "native" else inner.envs[0]
        return references(env.unwrapped)["optimal_return"]

    def _warn(self, index: int, optimum: float | None) -> None:
        stage = self.stages[index - 1]
        if stage.success is not None and stage.success > 1:
            self.warnings.append(
                f"Stage {index} can never be passed: success is {number(stage.success)}, and it is a share, 1 at most."
            )
        if stage.mean_return is not None and optimum is not None and stage.mean_return > optimum:
            self.warnings.append(
                f"Stage {index} can't be passed but by chance: mean_return is {number(stage.mean_return)}, and the "
                f"best mean return of its env is {number(optimum)}."
            )
