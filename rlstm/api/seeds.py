"""Many seeds of one experiment from Python, each in a process of its own, into one folder.

    import rlstm

    result = rlstm.train_seeds("ppo", env="rlstm/TMaze-v0", seeds=[0, 1, 2], jobs=2)
    print(result.over_seeds()["mean_return"])
    rlstm.resume_seeds(result.run_dir, total_steps=1_000_000)

This module imports no torch: it is there to wait.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.api.seed_results import SeedsResult, Watch
from rlstm.api.stored_configs import read_stored, stored_form, with_run
from rlstm.api.trust import check_modules
from rlstm.core.threads import num_cores
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.hints import import_words
from rlstm.training.seed_processes import Job, Pool
from rlstm.training.seeds_folder import SeedsFolder

if TYPE_CHECKING:
    from rlstm.training.progress import UI

_MODULE = "rlstm.api.one_seed"


def train_seeds(
    agent: str = "ppo",
    preset: str | None = None,
    *,
    seeds: Sequence[int],
    jobs: int | None = None,
    ui: UI = "auto",
    **settings: Any,
) -> SeedsResult:
    """Train an agent once for each seed, several at a time, each in a process and a run directory of its own.

    Args:
        agent: Name of the agent.
        preset: Name of a preset to start from.
        seeds: The seeds.
        jobs: How many at a time; by default as many as there are cores.
        ui: The display: auto, rich, plain or none. It goes to stderr.
        **settings: As those of ``rlstm.train``; ``run_dir`` is the folder of all, and threads are one unless
            ``num_threads`` says otherwise.

    Returns:
        Where the runs are, and how each seed ended; one that fails is named with its error, and the others go on.

    Raises:
        ConfigError: If a setting makes no sense, seeds are named twice, there are more jobs than cores, or all seeds
            fail by the same error before they begin.
        RunDirectoryError: If the folder exists or can't be written.
    """
    if "seed" in settings:
        raise ConfigError(f"seed is {settings['seed']} and seeds {list(seeds)}: leave seed out.")
    return train_seeds_config(make_config(agent, preset, **settings), seeds, jobs=jobs, ui=ui)


def train_seeds_config(
    config: ExperimentConfig[Any],
    seeds: Sequence[int],
    *,
    jobs: int | None = None,
    ui: UI = "auto",
    command: Sequence[str] | None = None,
    seed_command: Sequence[str] | None = None,
    note: str | None = None,
) -> SeedsResult:
    """Train the experiment ``config`` for each seed; see ``train_seeds``.

    Args:
        config: The experiment; its seed is not used.
        seeds: The seeds.
        jobs: How many at a time.
        ui: The display.
        command: The command line, as a list of words; ``sys.argv`` if None.
        seed_command: That of a single seed, without its seed and folder.
        note: What a display shows before it begins.
    """
    config = _checked(config, seeds)
    at_once = _jobs(jobs, len(seeds), config.run.num_threads)
    folder = SeedsFolder.create(
        config.run.run_dir,
        config=stored_form(config),
        seeds=seeds,
        command=sys.argv if command is None else command,
        seed_command=seed_command,
    )
    # Whatever the settings name was given just now.
    tasks = {seed: _task(folder, seed, resume=False, trust=True) for seed in seeds}
    result = _run(folder, tasks, at_once, config.run.num_threads, ui, note)
    _refuse_what_is_wrong_for_all(folder, result)
    return result


def resume_seeds(
    run_dir: str | os.PathLike[str],
    *,
    total_steps: int | None = None,
    num_threads: int | None = None,
    jobs: int | None = None,
    ui: UI = "auto",
    env_import: Sequence[str] = (),
    trust: bool = False,
) -> SeedsResult:
    """Go on with every seed of a folder that isn't complete; one that never began is started.

    Args:
        run_dir: The folder of the seeds.
        total_steps: The new total of each, not extra; each one's own by default.
        num_threads: Threads of torch from here on; by default as many as before.
        jobs: How many at a time; by default as many as there are cores.
        ui: The display.
        env_import: Modules that each process imports first, beside those that the folder names and this process has.
        trust: Import the modules that the runs name, and take their env from the entry points that they name.

    Raises:
        ConfigError: If all seeds are complete, or a number is out of range.
        RunDirectoryError: If the folder is none of seeds.
    """
    folder = SeedsFolder.open(run_dir)
    config = read_stored(folder.config)
    given = {"total_steps": total_steps, "num_threads": num_threads}
    config = with_run(config, **{name: value for name, value in given.items() if value is not None})
    check_modules(config.env, folder.path, trust=trust)
    modules = list(dict.fromkeys([*env_import, *config.env.modules]))
    threads = config.run.num_threads or 1
    left = [seed for seed in folder.seeds if _left(folder, seed, total_steps)]
    if not left:
        raise ConfigError(
            f"All {len(folder.seeds)} seeds of {folder.path} are complete: nothing is left to do. Give a larger total "
            "with --total-steps."
        )
    at_once = _jobs(jobs, len(left), threads)
    tasks = {}
    for seed in left:
        folder.clear(seed)
        given = {"total_steps": total_steps, "num_threads": num_threads and threads}
        begun = folder.seed_path(seed).is_dir()
        tasks[seed] = {**_task(folder, seed, resume=begun, trust=trust), "env_import": modules, **given}
    return _run(folder, tasks, at_once, threads, ui, None)


def _checked(config: ExperimentConfig[Any], seeds: Sequence[int]) -> ExperimentConfig[Any]:
    """Return the experiment as each seed trains it, after all that can be refused before there is a folder."""
    if not seeds:
        raise ConfigError("No seed is given: name some, e.g. 0 1 2.")
    twice = sorted({seed for seed in seeds if list(seeds).count(seed) > 1})
    if twice:
        raise ConfigError(f"The seeds name {', '.join(map(str, twice))} more than once; each is trained once.")
    for seed in seeds:
        with_run(config, seed=seed)
    # Processes that share the cores would measure each other.
    config = with_run(config, num_threads=config.run.num_threads or 1, **_absolute(config))
    spec = resolve_env(config.env)  # So that a wrong id is told before there is a folder.
    if not isinstance(spec.entry_point, str):
        raise ConfigError(
            f"The env '{spec.id}' was registered with a class or a function in this process, and each seed has its "
            "own: register it with an entry point like 'module:Class', in a module that env_import names."
        )
    return config


def _refuse_what_is_wrong_for_all(folder: SeedsFolder, result: SeedsResult) -> None:
    """Refuse what every seed failed by before it began: it is a setting, and nothing stays that would be in the way."""
    errors = {one.error for one in result.seeds}
    if len(errors) == 1 and None not in errors and not any(folder.seed_path(seed).exists() for seed in folder.seeds):
        with contextlib.suppress(OSError):
            folder.remove()
        raise ConfigError(str(errors.pop()))


def _left(folder: SeedsFolder, seed: int, total_steps: int | None) -> bool:
    """Whether a seed has steps left to do; what can't be read is left to its process, which says so."""
    step = folder.step(seed)
    total = folder.total_steps(seed) if total_steps is None else total_steps
    return step is None or step < total


def _absolute(config: ExperimentConfig[Any]) -> dict[str, str]:
    """Return the settings that name files with their full paths: a seed may begin later, from another folder."""
    named = {name: getattr(config.run, name) for name in ("init_from", "curriculum")}
    return {name: str(Path(path).absolute()) for name, path in named.items() if path and Path(path).exists()}


def _jobs(asked: int | None, num_seeds: int, num_threads: int) -> int:
    """Return how many processes run at a time."""
    cores = num_cores()
    if asked is None:
        return max(1, min(num_seeds, cores // num_threads))
    if asked < 1:
        raise ConfigError(f"jobs is {asked}; it must be at least 1.")
    if asked > cores:
        has = "1 core" if cores == 1 else f"{cores} cores"
        raise ConfigError(
            f"jobs is {asked}, but there {'is' if cores == 1 else 'are'} {has} here: give {cores} at most."
        )
    return asked


def _task(folder: SeedsFolder, seed: int, *, resume: bool, trust: bool) -> dict[str, Any]:
    unchanged: dict[str, Any] = {"total_steps": None, "num_threads": None, "env_import": []}
    return {"folder": str(folder.path), "seed": seed, "resume": resume, "trust": trust, **unchanged}


def _run(
    folder: SeedsFolder,
    tasks: Mapping[int, dict[str, Any]],
    at_once: int,
    num_threads: int,
    ui: UI,
    note: str | None,
) -> SeedsResult:
    from rlstm.training.seeds_table import seeds_display

    jobs = [Job(seed, _MODULE, task, folder.log_path(seed)) for seed, task in tasks.items()]
    with seeds_display(ui) as display:
        watch = Watch(folder, tasks, display)
        threads = "one thread" if num_threads == 1 else f"{num_threads} threads"
        display.message(f"{len(jobs)} seeds, {at_once} at a time, {threads} each | run {folder.path}")
        if note is not None:
            display.message(note)
        pool = Pool(jobs, at_once, num_threads)
        interrupted = pool.run(began=watch.began, ended=watch.ended, asked=watch.asked, watch=watch.look)
        watch.look()
    words = import_words(read_stored(folder.config).env)
    return SeedsResult(str(folder.path), tuple(map(watch.result, folder.seeds)), interrupted, words)
