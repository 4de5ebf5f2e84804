"""The library from Python: train an agent and resume it; what it has learnt is played by ``rlstm.api.finished_runs``.

    import rlstm

    result = rlstm.train("ppo", env="rlstm/TMaze-v0", total_steps=100_000, hidden_size=64)
    agent = rlstm.load(result.run_dir)
    action = agent.act(observation)

Every setting has the name of its flag with underscores; those of memory and inputs keep their prefix as a dict:
``memory={"lifetime": "trial", "episodes_per_trial": 2}``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Literal

from gymnasium.envs.registration import EnvSpec

from rlstm.api.configs import config_from_layers, make_config
from rlstm.api.envs import resolve_env
from rlstm.core.errors import UnknownNameError
from rlstm.core.files import write_json
from rlstm.core.process import prepare_process
from rlstm.training.checkpoints import check_meta, load_checkpoint
from rlstm.training.config import ConfigError, ExperimentConfig, refusals_name_settings
from rlstm.training.loggers import CSVLogger, LoggerGroup, TensorBoardLogger, cut_csv
from rlstm.training.on_policy import run, summary
from rlstm.training.progress import UI, make_progress
from rlstm.training.run import Run, TrainResult
from rlstm.training.run_directory import RunDirectory, RunDirectoryError, default_run_directory

_EARLIER = {"ppo": {"value_bias": "zero"}}
"""What runs of an agent did before there was a setting for it, where that is not its default."""

Which = Literal["latest", "best"] | int
"""Which checkpoint of a run."""


def train(agent: str = "ppo", preset: str | None = None, *, ui: UI = "auto", **settings: Any) -> TrainResult:
    """Train an agent into a new run directory.

    Args:
        agent: Name of the agent.
        preset: Name of a preset to start from.
        ui: The display: auto, rich, plain or none. It goes to stderr.
        **settings: By the names of the flags of ``rlstm train``, e.g. ``env="rlstm/TMaze-v0"``, ``num_envs=64``,
            ``memory={"lifetime": "trial", "episodes_per_trial": 2}``.

    Returns:
        Where the run is, how many steps it took, and how good the last episodes were.

    Raises:
        ValueError: If a setting is unknown or makes no sense.
        EnvironmentFailure: If the env can't be made or breaks.
        NonFiniteError: If the training diverges.
        RunDirectoryError: If the run directory exists or can't be written.
    """
    return train_config(make_config(agent, preset, **settings), ui=ui)


def train_config(
    config: ExperimentConfig[Any], *, ui: UI = "auto", command: Sequence[str] | None = None, note: str | None = None
) -> TrainResult:
    """Train the experiment ``config``; see ``train``. A display shows the note before it begins."""
    prepare_process()  # Initial weights are drawn by one thread, however many there are later.
    training, spec = _make_training(config)
    with closing(training):
        if config.run.init_from is not None:
            start_from = RunDirectory.open(config.run.init_from)
            training.start_from(load_checkpoint(start_from, best_or_latest(start_from)))
        path = config.run.run_dir or default_run_directory("runs", config.agent, spec.id, config.run.seed)
        stored, written, device = _stored_form(config), _written_spec(spec), str(training.device)
        directory = RunDirectory.create(path, config=stored, env_spec=written, command=command, device=device)
        training.choose_threads()
        return _run(training, directory, ui, purge_step=None, notes=[] if note is None else [note])


def best_or_latest(directory: RunDirectory) -> Which:
    """Return the name of a run's best checkpoint, or of the latest where none is the best yet."""
    return "best" if (directory.checkpoints_path / "best").exists() else "latest"


def resume(
    run_dir: str | os.PathLike[str],
    *,
    total_steps: int | None = None,
    num_threads: int | None = None,
    ui: UI = "auto",
    command: Sequence[str] | None = None,
) -> TrainResult:
    """Go on with a run from its latest checkpoint, as if it had never stopped.

    Args:
        run_dir: The run's folder.
        total_steps: The new total, not extra; the old total by default.
        num_threads: Threads of torch from here on, 0 to measure which number is fastest. By default as many as before,
            which the last bit of a result may depend on.
        ui: The display.
        command: The command line, for the run's ``command.txt``.

    Raises:
        ConfigError: If the total is not larger than what is done.
        CheckpointError: If the checkpoint is damaged or another run's.
        RunDirectoryError: If the folder is no run.
    """
    directory = RunDirectory.open(run_dir)
    given = {"total_steps": total_steps, "num_threads": num_threads}
    overrides = {name: value for name, value in given.items() if value is not None}
    config = read_config(directory, **overrides)
    prepare_process()
    checkpoint = load_checkpoint(directory, "latest")
    check_meta(checkpoint, config.identity())
    if config.run.total_steps <= checkpoint.step:
        raise ConfigError(
            f"The run is at step {checkpoint.step} and total_steps is {config.run.total_steps}: nothing is left to do. "
            "Give a larger total with --total-steps."
        )
    training, _ = _make_training(config, read_spec(directory, config))
    with closing(training):
        notes = [training.load(checkpoint), training.choose_threads(anew=num_threads == 0)]
        directory.cut_evaluations(checkpoint.step)
        cut_csv(directory.progress_path, checkpoint.step)
        if command is not None:
            directory.append_command(command)
        # They are kept, so that a run stopped once more goes on to the same end with as many threads.
        write_json(directory.config_path, _stored_form(config))
        return _run(training, directory, ui, purge_step=checkpoint.step + 1, notes=notes)


def _make_training(config: ExperimentConfig[Any], spec: EnvSpec | None = None) -> tuple[Run, EnvSpec]:
    from rlstm.agents import load_agent

    spec = resolve_env(config.env) if spec is None else spec
    with refusals_name_settings():
        agent_type = load_agent(config.agent)[0]
        training: Run = agent_type.run_type(config, agent_type, spec)
        return training, spec


def _written_spec(spec: EnvSpec) -> str:
    try:
        return spec.to_json()
    except ValueError as error:
        raise ConfigError(
            f"Env '{spec.id}' can't be written into the run directory: {error} Register it, and its wrappers, with "
            "an entry_point like 'module:Class'."
        ) from error


def _stored_form(config: ExperimentConfig[Any]) -> dict[str, Any]:
    return {"agent": config.agent, "settings": config.settings()}


def _run(
    training: Run, directory: RunDirectory, ui: UI, purge_step: int | None, notes: Sequence[str | None] = ()
) -> TrainResult:
    config = training.config
    board = TensorBoardLogger(directory, purge_step=purge_step)
    with LoggerGroup(CSVLogger(directory.progress_path), board) as logger, make_progress(ui) as progress:
        board.log_hyperparameters(config.settings())
        progress.start(summary(training, directory), config.run.total_steps, training.step)
        for note in filter(None, notes):
            progress.message(note)
        result = run(training, directory, logger, progress)
    return replace(result, run_dir=str(directory.path))


def read_config(directory: RunDirectory, **overrides: Any) -> ExperimentConfig[Any]:
    """Return the experiment of a run directory, with some settings replaced.

    Raises:
        RunDirectoryError: If ``config.json`` holds what this version doesn't know.
        ConfigError: If a replaced setting has a wrong value.
    """
    stored = directory.read_config()
    try:
        config = config_from_layers(stored["agent"], None, _EARLIER.get(stored["agent"], {}), stored["settings"])
    except (ConfigError, UnknownNameError, KeyError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise RunDirectoryError(
            f"{directory.config_path} is not the config of a run of this version: {reason}"
        ) from error
    return make_config(config.agent, **{**config.settings(), **overrides}) if overrides else config


def read_spec(directory: RunDirectory, config: ExperimentConfig[Any]) -> EnvSpec:
    """Return the env of a run: its modules are imported, and its spec must be the one the run began with.

    Entry points of this package are those of this version, wherever they were when the run was stored.
    """
    from rlstm.envs.stored_specs import present_spec

    spec = resolve_env(config.env)
    stored = EnvSpec.from_json(json.dumps(directory.read_env_spec()))
    if stored.id != spec.id:
        raise ConfigError(f"{directory.env_spec_path} is of env '{stored.id}', the config of '{spec.id}'.")
    return present_spec(stored)
