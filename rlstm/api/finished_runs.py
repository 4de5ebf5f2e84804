"""What a run has learnt, from Python: evaluate its agent, record demonstrations by it, load it and let it act."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rlstm.api.loaded_agent import LoadedAgent, NaN, Origin
from rlstm.api.stored_runs import SPACES, Which, best_or_latest, read_config, read_spec, written_spec
from rlstm.api.trust import check_modules
from rlstm.cells import CELLS
from rlstm.core.process import choose_device, prepare_process
from rlstm.core.space_json import space_from_json
from rlstm.core.threads import check_num_threads, num_cores
from rlstm.evaluation.demonstrations import Demonstrations, describe_space, refuse_existing
from rlstm.evaluation.evaluate import EvaluationResult, evaluate, evaluation_envs
from rlstm.evaluation.record import record as record_trajectories
from rlstm.policies.encoders import AUTO, ENCODERS
from rlstm.policies.policy import RecurrentPolicy
from rlstm.training.checkpoints import check_meta, load_checkpoint
from rlstm.training.config import ConfigError, ExperimentConfig, refusals_name_settings
from rlstm.training.run import make_policy
from rlstm.training.run_directory import RunDirectory, RunDirectoryError
from rlstm.training.weights import load_weights
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.specs import import_modules_of


@dataclass(frozen=True)
class FinishedRun:
    """A policy as one checkpoint of a run has it, with the run's config; its env is made only where it is played."""

    config: ExperimentConfig[Any]
    directory: RunDirectory
    policy: RecurrentPolicy
    checkpoint: Which
    step: int
    trust: bool = False

    @cached_property
    def spec(self) -> EnvSpec:
        """The env; code that its files name, and this process has not, is refused unless the run is trusted."""
        return read_spec(self.directory, self.config, trust=self.trust)

    def takes_likeliest(self, deterministic: bool | None) -> bool:
        """Return whether to take the likeliest actions: if asked to, or as evaluations during the run did."""
        if deterministic is not None:
            return deterministic
        return self.config.eval_actions(numbers=isinstance(self.policy.action_space, spaces.Box)) == "likeliest"

    def envs(self, episodes: int) -> closing[VectorEnvs]:
        """Make envs for some episodes, which a ``with`` closes.

        Raises:
            ConfigError: If their spaces are not those that the policy was trained for.
        """
        with refusals_name_settings():
            envs = evaluation_envs(self.spec, self.config.env, self.config.memory, episodes)
        seen, trained = (describe_space(one.observation_space) for one in (envs, self.policy))
        if seen != trained or envs.action_space != self.policy.action_space:
            envs.close()
            raise ConfigError(
                f"The env has observations {seen} and actions {envs.action_space}, but the agent of "
                f"{self.directory.path} was trained for {trained} and {self.policy.action_space}. Leave out what "
                "changes them."
            )
        return closing(envs)

    def description(self) -> dict[str, Any]:
        """Return agent, step and env as JSON."""
        spec = copy.copy(self.spec)
        spec.kwargs = {**spec.kwargs, **self.config.env.env_kwargs}
        return {"agent": self.config.agent, "step": self.step, "env_spec": written_spec(spec)}


def open_run(
    run_dir: str | os.PathLike[str],
    checkpoint: Which | None = None,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    device: str | None = None,
    trust: bool = False,
    acts: bool = True,
) -> FinishedRun:
    """Load what a run has learnt, without its env.

    Args:
        run_dir: The run's folder.
        checkpoint: latest, best, or a step; by default the best where there is one.
        env_kwargs: Arguments of the env to change where it is played.
        device: Where it computes; the run's own device by default.
        trust: Import the modules that the run names, and take its env from the entry points that it names.
        acts: Whether it has to choose its actions step by step.

    Raises:
        CheckpointError, RunDirectoryError: If the checkpoint or the folder is missing or damaged.
        ConfigError: If it has to act and can't.
    """
    directory = RunDirectory.open(run_dir)
    config = read_config(directory)
    if acts and config.policy.bidirectional:
        raise ConfigError(
            f"The agent of {directory.path} is bidirectional: it reads a sequence from both ends before it answers, so "
            "it can't act step by step. 'rlstm evaluate' plays it; to act, train without --bidirectional."
        )
    which = best_or_latest(directory) if checkpoint is None else checkpoint
    loaded = load_checkpoint(directory, which)
    check_meta(loaded, config.identity())
    with refusals_name_settings():
        chosen, _ = choose_device(config.run.device if device is None else device)
        policy = make_policy(config, *_read_spaces(directory, config, trust=trust), chosen)
    load_weights(policy, loaded)
    played = read_config(directory, env_kwargs={**config.env.env_kwargs, **env_kwargs}) if env_kwargs else config
    return FinishedRun(played, directory, policy.eval(), which, loaded.step, trust)


def _read_spaces(
    directory: RunDirectory, config: ExperimentConfig[Any], *, trust: bool
) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """Return the spaces of observations and actions: as stored, or those of the env for a run of an earlier version."""
    if config.policy.cell not in CELLS or config.policy.encoder not in (AUTO, *ENCODERS):
        check_modules(config.env, directory.path, trust=trust)
        import_modules_of(config.env)  # They may register it.
    stored = directory.read_spaces()
    if stored is None:
        spec = read_spec(directory, config, trust=trust)
        with closing(evaluation_envs(spec, config.env, config.memory, episodes=1)) as envs:
            return envs.observation_space, envs.action_space
    try:
        observations, actions = (space_from_json(stored[name]) for name in SPACES)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise RunDirectoryError(f"{directory.spaces_path} is not as rlstm writes it: {error!r}.") from error
    return observations, actions


def _open_to_play(
    run_dir: str | os.PathLike[str],
    checkpoint: Which | None,
    episodes: int,
    seed: int,
    num_threads: int | None,
    env_kwargs: Mapping[str, Any],
    trust: bool,
    *,
    acts: bool = True,
) -> FinishedRun:
    """Load a run and prepare the process: as many threads as were asked for here or for the run, or one."""
    for name, value, least in (("episodes", episodes, 1), ("seed", seed, 0)):
        if value < least:
            raise ConfigError(f"{name} is {value}; it must be at least {least}.")
    if num_threads is not None and num_threads < 1:
        raise ConfigError(f"num_threads is {num_threads}; it must be at least 1.")
    asked = min(num_cores(), read_config(RunDirectory.open(run_dir)).run.num_threads)  # Perhaps of a larger machine.
    with refusals_name_settings():
        check_num_threads(num_threads or 0)
    prepare_process(asked if num_threads is None else num_threads)
    return open_run(run_dir, checkpoint, env_kwargs=env_kwargs, trust=trust, acts=acts)


def evaluate_run(
    run_dir: str | os.PathLike[str],
    *,
    episodes: int = 100,
    seed: int = 0,
    deterministic: bool | None = None,
    checkpoint: Which | None = None,
    ablate_memory: bool = False,
    env_kwargs: dict[str, Any] | None = None,
    num_threads: int | None = None,
    trust: bool = False,
) -> EvaluationResult:
    """Play complete episodes with the agent of a run, on seeds that training never uses.

    Args:
        run_dir: The run's folder.
        episodes: How many.
        seed: Decides the episodes.
        deterministic: Take the likeliest action instead of sampling; by default as the run's own evaluations do.
        checkpoint: latest, best, or a step; by default the best where there is one.
        ablate_memory: Reset the state before every step.
        env_kwargs: Arguments of the env to change, e.g. a longer corridor.
        num_threads: Threads of torch; by default those that were asked for when the run was trained, or one.
        trust: Import the modules that the run names, and take its env from the entry points that it names.

    Raises:
        ConfigError: If a number is out of range, or the env with its changed arguments doesn't fit the network.
        CheckpointError, RunDirectoryError: If the checkpoint or the folder is missing or damaged.
    """
    run = _open_to_play(run_dir, checkpoint, episodes, seed, num_threads, env_kwargs or {}, trust, acts=False)
    likeliest = run.takes_likeliest(deterministic)
    with run.envs(episodes) as envs:
        return evaluate(run.policy, envs, episodes, seed=seed, deterministic=likeliest, ablate_memory=ablate_memory)


def record(
    run_dir: str | os.PathLike[str],
    *,
    episodes: int,
    output: str | os.PathLike[str] | None = None,
    seed: int = 0,
    deterministic: bool | None = None,
    checkpoint: Which | None = None,
    only_successes: bool = False,
    num_threads: int | None = None,
    trust: bool = False,
) -> Demonstrations:
    """Play complete episodes with the agent of a run, and write what it saw and did.

    Args:
        run_dir: The run's folder.
        episodes: How many; with trials rounded up to whole ones.
        output: The file; ``demonstrations.safetensors`` in the run's folder by default. It must not exist.
        seed: Decides the episodes, which neither training nor evaluation uses.
        deterministic: Take the likeliest action instead of sampling; by default as the run's own evaluations do.
        checkpoint: latest, best, or a step; by default the best where there is one.
        only_successes: Keep of what is played the episodes that succeed, and the trials that end in success.
        num_threads: Threads of torch; by default those that were asked for when the run was trained, or one.
        trust: Import the modules that the run names, and take its env from the entry points that it names.

    Returns:
        What was written; ``Demonstrations.load`` reads it back.

    Raises:
        ConfigError: If a number is out of range.
        CheckpointError, RunDirectoryError: If the checkpoint or the folder is missing or damaged.
        DemonstrationsError: If the file exists or can't be written, or nothing succeeds that should.
        EnvironmentFailure: If an episode doesn't end.
    """
    path = RunDirectory(run_dir).demonstrations_path if output is None else Path(output)
    run = _open_to_play(run_dir, checkpoint, episodes, seed, num_threads, {}, trust)
    refuse_existing(path)
    likeliest = run.takes_likeliest(deterministic)
    with run.envs(episodes) as envs:
        played = record_trajectories(run.policy, envs, episodes, seed=seed, deterministic=likeliest)
    kept = played.only_successes() if only_successes else played
    demonstrations = replace(kept, metadata={**run.description(), **kept.metadata, "only_successes": only_successes})
    demonstrations.save(path)
    return demonstrations


def load(
    run_dir: str | os.PathLike[str],
    checkpoint: Which | None = None,
    device: str = "cpu",
    *,
    nan: NaN | None = None,
    num_envs: int | None = None,
    trust: bool = False,
) -> LoadedAgent:
    """Load a trained agent to act, one observation at a time; its env is neither imported nor made.

    Args:
        run_dir: The run's folder.
        checkpoint: latest, best, or a step; by default the best where there is one.
        device: Where it computes.
        nan: Whether an observation that is not finite is refused, or its last good value is held; by default held if
            the agent was trained with the wrapper ``hold``.
        num_envs: Number of envs N that it acts in at once; None for one, without an axis for it.
        trust: Import the modules that the run names, if its cell or encoder is none of this library's.

    Raises:
        RunDirectoryError: If the folder is no run.
        CheckpointError: If the checkpoint is damaged; nothing in it is ever executed.
    """
    run = open_run(run_dir, checkpoint, device=device, trust=trust)
    origin = Origin(
        str(run.directory.path), str(run.checkpoint), run.step, run.config.policy.cell, run.config.env.env_wrappers
    )
    likeliest = run.takes_likeliest(None)
    if nan is None:
        nan = "hold" if "hold" in run.config.env.env_wrappers else "refuse"
    return LoadedAgent(run.policy, nan=nan, deterministic=likeliest, num_envs=num_envs, origin=origin)
