"""Search for the settings with which an agent learns an env: ``rlstm.tune``."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.api.tuning.folder import check_folder, open_folder
from rlstm.api.tuning.plan import Options, Plan, Pruner, make_plan
from rlstm.api.tuning.preset_file import preset_text
from rlstm.api.tuning.space import Given, Space
from rlstm.cells import CELLS
from rlstm.core.cell_graph_files import SUFFIX
from rlstm.core.errors import missing_extra, unknown_name
from rlstm.core.searched import Choices
from rlstm.training.config import ConfigError
from rlstm.training.progress import UI

if TYPE_CHECKING:
    from rlstm.api.tuning.result import TuneResult


def tune(
    agent: str = "ppo",
    preset: str | None = None,
    *,
    search: Mapping[str, Given] | None = None,
    search_only: bool = False,
    trials: int | None = None,
    budget_steps: int | None = None,
    steps_per_trial: int | None = None,
    evaluations: int = 5,
    pruner: Pruner = "median",
    finalists: int = 3,
    final_seeds: int = 3,
    study_dir: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    ui: UI = "auto",
    **settings: Any,
) -> TuneResult:
    """Search for the settings with which an agent learns an env, and compare the best on fresh seeds.

    Args:
        agent: Name of the agent.
        preset: Name of the preset to start from.
        search: What to try of settings, by their names, over what is tried by default: ``"1e-4..1e-2"``, ``"lstm,gru"``
            or a list of choices; None for what is declared.
        search_only: Whether nothing but ``search`` is searched.
        trials: Trials in all; by default 30, or as many as ``budget_steps`` allows.
        budget_steps: Begin no trial once the trials have taken so many environment steps together.
        steps_per_trial: Environment steps of a trial and of a run of the final round; by default ``total_steps``.
        evaluations: Evaluations of a trial, at each of which it may be pruned.
        pruner: median, halving or none.
        finalists: How many of the best trials are trained again, beside the settings that the search began with.
        final_seeds: Fresh seeds of the final round; the best mean over them wins.
        study_dir: Folder of the study. If it holds this study already, it is joined, or gone on with.
        jobs: Processes that play trials here.
        ui: The display: lines on stderr, or none.
        **settings: By the names of the flags of ``rlstm train``; they are fixed, and not searched.

    Raises:
        ValueError: If a setting is unknown, makes no sense, or has no such space.
        MissingExtraError: If Optuna is not installed.
        RunDirectoryError: If the folder can't be written.
        TuningError: If the folder holds another study, or every trial fails.
    """
    base = make_config(agent, preset, **settings)
    fixed = _fixed(settings)
    start = "default settings" if preset is None else f"preset {preset}"
    options = Options(
        trials=trials,
        budget_steps=budget_steps,
        steps_per_trial=steps_per_trial,
        evaluations=evaluations,
        pruner=pruner,
        finalists=finalists,
        final_seeds=final_seeds,
    )
    plan = make_plan(base, start, fixed, search or {}, options, only=search_only)
    return tune_plan(plan, None if study_dir is None else os.fspath(study_dir), jobs=jobs, ui=ui)


def _fixed(settings: Mapping[str, Any]) -> set[str]:
    """Return the names of given settings, those in tables too."""
    names = set()
    for name, value in settings.items():
        nested = name in ("memory", "inputs") and isinstance(value, Mapping)
        names |= {f"{name}.{inner}" for inner in value} if nested else {name}
    return names


def tune_plan(plan: Plan, study_dir: str | None = None, *, jobs: int = 1, ui: UI = "auto") -> TuneResult:
    """Carry out a search; see ``tune``."""
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; it must be at least 1.")
    resolve_env(plan.base.env)
    _check_cells(plan.space)
    preset_text(plan.base)  # Refused, where it can't be written, before anything is played.
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise missing_extra("A search for settings", "optuna", "tune") from None
    from rlstm.api.tuning.result import conclude
    from rlstm.api.tuning.work import work

    if study_dir is not None:
        check_folder(Path(study_dir), plan)
    folder = open_folder(study_dir, plan)
    tell = _silent if ui == "none" else _print
    tell(f"study {folder}: {len(plan.space)} settings searched, from the {plan.start}")
    with _helpers(plan, folder, jobs - 1, ui):
        try:
            study = work(plan, folder, tell)
        except KeyboardInterrupt:
            tell(f"Stopped; the same command with --study-dir {folder} goes on.")
            raise
    return conclude(study)


def _check_cells(space: Space) -> None:
    """Refuse cells that there are not; modules that register some have been imported."""
    tried = space.get("cell")
    for name in tried.values if isinstance(tried, Choices) else ():
        if str(name).endswith(SUFFIX):
            raise ConfigError(f"A search tries cells by their names, but '{name}' is a file: give it alone, as --cell.")
        if name not in CELLS:
            raise unknown_name("cell", name, CELLS)


@contextmanager
def _helpers(plan: Plan, folder: Path, count: int, ui: UI) -> Iterator[None]:
    """Let some more processes work on the study."""
    context = multiprocessing.get_context("spawn")
    # Not daemons: an agent or an env may have workers of its own.
    processes = [context.Process(target=_help, args=(plan, folder, ui)) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    finally:
        for process in processes:
            process.join()


def _help(plan: Plan, folder: Path, ui: UI) -> None:
    """Work on a study in a process of its own."""
    from rlstm.api.tuning.work import work

    with suppress(AttributeError):  # A terminated one gives its trial back like an interrupted one.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        work(plan, folder, _silent if ui == "none" else _print)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def _silent(line: str) -> None:
    return None
