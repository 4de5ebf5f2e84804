"""The library from Python: train an agent and resume it; what it has learnt is played by ``rlstm.api.finished_runs``.

    import rlstm

    result = rlstm.train("ppo", env="rlstm/TMaze-v0", total_steps=100_000, hidden_size=64)
    agent = rlstm.load(result.run_dir)
    action = agent.act(observation)

Every setting has the name of its flag with underscores; those of memory and inputs keep their prefix as a dict:
``memory={"lifetime": "trial", "episodes_per_trial": 2}``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.api.logged_run import run_logged
from rlstm.api.resuming import edits_taken, last_checkpoint, take_edits
from rlstm.api.stored_configs import stored_form as _stored_form
from rlstm.api.stored_runs import (
    IN_PROCESS,
    REGISTER_IT,
    SPACES,
    best_or_latest,
    read_config,
    read_spec,
    written_spec,
)
from rlstm.api.trust import check_stages
from rlstm.core.process import prepare_process
from rlstm.core.ranks import ALONE, Ranks, joined_ranks, was_restarted
from rlstm.core.space_json import space_to_json
from rlstm.training.checkpoints import Checkpoint, list_checkpoints, load_checkpoint, repair_checkpoints
from rlstm.training.config import ConfigError, ExperimentConfig, refusals_name_settings
from rlstm.training.histories import restore_histories
from rlstm.training.loggers import LoggerGroup
from rlstm.training.loop import OnEvaluation, run
from rlstm.training.new_folder import claimed
from rlstm.training.progress import UI, make_progress
from rlstm.training.result import TrainResult
from rlstm.training.run import Run
from rlstm.training.run_directory import RunDirectory, default_run_directory, disk_errors
from rlstm.training.run_lock import locked
from rlstm.training.weights import without_values


@dataclass(frozen=True)
class _Resumption:
    """What ``resume`` is asked for, beside the run: its arguments of the same names, in this order."""

    total_steps: int | None = None
    num_threads: int | None = None
    accept_edits: bool = False
    ui: UI = "auto"
    command: Sequence[str] | None = None
    on_evaluation: OnEvaluation | None = None
    trust: bool = False


def train(
    agent: str = "ppo",
    preset: str | None = None,
    *,
    ui: UI = "auto",
    on_evaluation: OnEvaluation | None = None,
    **settings: Any,
) -> TrainResult:
    """Train an agent into a new run directory.

    Args:
        agent: Name of the agent.
        preset: Name of a preset to start from.
        ui: The display: auto, rich, plain or none. It goes to stderr.
        on_evaluation: Called after every evaluation with the step and all metrics of the update by name; if it returns
            False, the run ends as if its steps were done. What it raises ends the run after the checkpoint is saved.
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
    if "seeds" in settings:
        raise ConfigError("seeds are trained by rlstm.train_seeds, each in a process of its own; here it is one seed.")
    return train_config(make_config(agent, preset, **settings), ui=ui, on_evaluation=on_evaluation)


def train_config(
    config: ExperimentConfig[Any],
    *,
    ui: UI = "auto",
    command: Sequence[str] | None = None,
    note: str | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> TrainResult:
    """Train the experiment ``config``; see ``train``. A display shows the note before it begins."""
    _check_hook(config, on_evaluation)
    prepare_process()  # Initial weights are drawn by one thread, however many there are later.
    ranks = joined_ranks()
    if not ranks.leads:
        return _follow(ranks, on_evaluation)
    if was_restarted() and config.run.run_dir is not None and list_checkpoints(RunDirectory(config.run.run_dir)):
        return _resume(ranks, config.run.run_dir, _Resumption(ui=ui, on_evaluation=on_evaluation))
    return _train(ranks, config, ui, command, note, on_evaluation)


def _train(
    ranks: Ranks,
    config: ExperimentConfig[Any],
    ui: UI,
    command: Sequence[str] | None,
    note: str | None,
    on_evaluation: OnEvaluation | None,
) -> TrainResult:
    """Train into a new folder; rank 0 does."""
    stored = _stored_form(config)
    training, spec = _make_training(config, ranks)
    with closing(training):
        start = _start_from_another(training)
        path = config.run.run_dir or default_run_directory("runs", config.agent, spec.id, config.run.seed)
        written, device = written_spec(spec), str(training.device)
        spaces_of = training.policy.observation_space, training.policy.action_space
        with claimed(Path(path)):
            directory = RunDirectory.create(
                path,
                config=stored,
                env_spec=written,
                spaces=dict(zip(SPACES, map(space_to_json, spaces_of), strict=True)),
                curriculum=training.curriculum_text,
                command=command,
                device=device,
            )
            training.choose_threads()
            ranks.share((config, spec, start, None))
            registered = f"The env {REGISTER_IT}." if written.get(IN_PROCESS) else None
            return run_logged(
                training, directory, ui, purge_step=None, notes=[note, registered], on_evaluation=on_evaluation
            )


def _follow(ranks: Ranks, on_evaluation: OnEvaluation | None) -> TrainResult:
    """Train as rank 0 does, which alone reads and writes: it sends the experiment and where to begin."""
    nothing: Any = None
    config, spec, start, checkpoint = ranks.share(nothing)
    resolve_env(config.env)  # Its modules register it in this process too.
    training, _ = _make_training(config, ranks, spec)
    with closing(training), LoggerGroup() as logger, make_progress("none") as progress:
        if start is not None:
            training.start_from(start)
        if checkpoint is not None:
            training.load(checkpoint)
        training.choose_threads()
        return run(training, RunDirectory("."), logger, progress, on_evaluation)


def _start_from_another(training: Run) -> Checkpoint | None:
    """Begin with the weights of another run, if so configured, and return its checkpoint."""
    config = training.config
    if config.run.init_from is None:
        return None
    start_from = RunDirectory.open(config.run.init_from)
    _check_graph(config, start_from)
    _check_units(config, start_from, training.policy.action_space)
    checkpoint = load_checkpoint(start_from, best_or_latest(start_from))
    if not (config.algorithm.has_critic and read_config(start_from).algorithm.has_critic):
        checkpoint = without_values(training.policy, checkpoint)
    training.start_from(checkpoint)
    return checkpoint


def _check_graph(config: ExperimentConfig[Any], start_from: RunDirectory) -> None:
    """Refuse weights of another graph, whose shapes may be the same."""
    here, there = config.policy.cell_identity, read_config(start_from).policy.cell_identity
    if here != there and {config.policy.cell, there.split()[0]} == {"graph"}:
        raise ConfigError(
            f"The cell is another graph than that of {start_from.path} ({here}, {there}): weights need the same."
        )


def _check_units(config: ExperimentConfig[Any], start_from: RunDirectory, action_space: spaces.Space[Any]) -> None:
    """Refuse weights whose numbers would be actions in other units."""
    theirs = read_config(start_from).policy.scale_actions
    if isinstance(action_space, spaces.Box) and config.policy.scale_actions != theirs:
        raise ConfigError(
            f"scale_actions is {config.policy.scale_actions}, but {start_from.path} was trained with {theirs}, so its "
            f"actions are in other units. Give --{'' if theirs else 'no-'}scale-actions."
        )


def resume(
    run_dir: str | os.PathLike[str],
    *,
    total_steps: int | None = None,
    num_threads: int | None = None,
    accept_edits: bool = False,
    ui: UI = "auto",
    command: Sequence[str] | None = None,
    on_evaluation: OnEvaluation | None = None,
    trust: bool = False,
) -> TrainResult:
    """Go on with a run from its latest checkpoint, as if it had never stopped; from its start if it has none yet.

    Args:
        run_dir: The run's folder.
        total_steps: The new total, not extra; the old total by default.
        num_threads: Threads of torch from here on, 0 to measure which number is fastest. By default as many as before,
            which the last bit of a result may depend on.
        accept_edits: Take files as they are that were edited since the run wrote them: its config, its env's spec, its
            logs. They are named, and known from then on.
        ui: The display.
        command: The command line, for the run's ``command.txt``.
        on_evaluation: As that of ``train``.
        trust: Import the modules that the run names, and take its env from the entry points that it names.

    Raises:
        ConfigError: If the total is not larger than what is done.
        CheckpointError: If the checkpoint is damaged or another run's.
        RunDirectoryError: If the folder is no run, a file was edited or damaged, or another process is training there.
    """
    prepare_process()
    ranks = joined_ranks()
    if not ranks.leads:
        return _follow(ranks, on_evaluation)
    asked = _Resumption(total_steps, num_threads, accept_edits, ui, command, on_evaluation, trust)
    return _resume(ranks, run_dir, asked)


def _resume(ranks: Ranks, run_dir: str | os.PathLike[str], asked: _Resumption) -> TrainResult:
    """Go on with a run; rank 0 does. See ``resume``."""
    directory = RunDirectory.open(run_dir, accept_edits=asked.accept_edits)
    with locked(directory.path):
        with disk_errors(directory.path):
            repair_checkpoints(directory)
            directory.remove_stale_files()
        notes = take_edits(directory) if asked.accept_edits else []
        given = {"total_steps": asked.total_steps, "num_threads": asked.num_threads}
        config = read_config(directory, **{name: value for name, value in given.items() if value is not None})
        _check_hook(config, asked.on_evaluation)
        checkpoint = last_checkpoint(directory, config, notes)
        kept = config if config.run.curriculum is None else _with_curriculum(config, directory.curriculum_path)
        training, spec = _make_training(kept, ranks, _spec_to_train(directory, config, trust=asked.trust))
        with closing(training):
            start = None
            if checkpoint is None:
                start = _start_from_another(training)
                notes.append("The run had not begun yet: it begins now.")
            else:
                notes.append(training.load(checkpoint))
            notes.append(training.choose_threads(anew=asked.num_threads == 0))
            ranks.share((kept, spec, start, checkpoint))
            purge_step = training.step + (training.open_update is None)
            histories = None if checkpoint is None else checkpoint.histories
            edited = restore_histories(directory, purge_step - 1, histories, accept_edits=asked.accept_edits)
            notes.append(edits_taken(edited))
            with disk_errors(directory.path):
                if asked.command is not None:
                    directory.append_command(asked.command)
                # They are kept, so that a run stopped once more goes on to the same end with as many threads.
                directory.write_config(_stored_form(config))
            return run_logged(training, directory, asked.ui, purge_step, notes, asked.on_evaluation)


def _spec_to_train(directory: RunDirectory, config: ExperimentConfig[Any], *, trust: bool) -> EnvSpec:
    """Return the env of a run that goes on; the envs of its stages name no other code either."""
    spec = read_spec(directory, config, trust=trust)
    if config.run.curriculum is not None and not trust:
        check_stages(directory.curriculum_path, config.env, spec)
    return spec


def _with_curriculum(config: ExperimentConfig[Any], path: Path) -> ExperimentConfig[Any]:
    return replace(config, run=replace(config.run, curriculum=str(path)))


def _check_hook(config: ExperimentConfig[Any], on_evaluation: OnEvaluation | None) -> None:
    """Refuse a function that would never be called."""
    if on_evaluation is not None and not config.run.evaluates:
        raise ConfigError(
            f"on_evaluation is given, but nothing is evaluated: eval_episodes is {config.run.eval_episodes} and "
            f"eval_env '{config.run.eval_env}'."
        )


def _make_training(
    config: ExperimentConfig[Any], ranks: Ranks = ALONE, spec: EnvSpec | None = None
) -> tuple[Run, EnvSpec]:
    from rlstm.agents import load_agent

    spec = resolve_env(config.env) if spec is None else spec
    with refusals_name_settings():
        agent_type = load_agent(config.agent)[0]
        training: Run = agent_type.run_type(config, agent_type, spec, ranks)
        return training, spec
