"""The search for memory cells, from Python: ``search_cell(tasks=("counting", "recall"), budget=40)``."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlstm.api.cell_search.fitness import Fitness, fitness, untrained
from rlstm.api.cell_search.folder import CellSearchFolder, Record, Round, ranked
from rlstm.api.cell_search.plan import CellSearchConfig, Task
from rlstm.core.cell_graphs import CellGraph
from rlstm.core.child_processes import terminate_with_parent
from rlstm.core.process import prepare_process
from rlstm.core.threads import num_cores
from rlstm.evolution.cell_graphs.search import Candidate, StructureSearch
from rlstm.training.config import ConfigError, refusals_name_settings
from rlstm.training.run_lock import locked
from rlstm.vector.specs import import_modules

if TYPE_CHECKING:
    from rlstm.training.progress import UI

_FINAL = 5_000  # Training seeds of the final round begin so much later: they are never those of the search.
_SEEDS = 10_000  # Between two seeds of searches.

Tell = Callable[[str], None]


@dataclass(frozen=True)
class CellSearchResult:
    """What a search has found."""

    run_dir: str
    searched: tuple[Record, ...]
    """All structures that were tried, in the order of their numbers."""

    finals: tuple[Record, ...]
    """The final round, the best first; the LSTM is among them."""

    champion_file: str
    picture: str

    @property
    def champion(self) -> Record:
        """The best of the final round."""
        return self.finals[0]


def search_cell(*, ui: UI = "auto", **settings: Any) -> CellSearchResult:
    """Search for memory cells that learn some tasks well, and compare the best with the LSTM on fresh seeds.

    Args:
        ui: The display, lines on stderr unless it is none.
        **settings: Those of ``CellSearchConfig``.

    Raises:
        ConfigError: If a setting makes no sense, or a task has no teacher.
        RunDirectoryError: If the folder holds something else.
    """
    with refusals_name_settings():
        config = CellSearchConfig(**settings)
    return search_cell_config(config, ui=ui)


def search_cell_config(config: CellSearchConfig, *, ui: UI = "auto") -> CellSearchResult:
    """Carry out a search; see ``search_cell``."""
    if config.jobs > num_cores():
        raise ConfigError(f"jobs is {config.jobs}, but there are {num_cores()} cores: give as many at most.")
    import_modules(config.env_import)
    prepare_process(1)
    for task in config.found_tasks():  # Refused, where it can't be learnt, before anything is written.
        with closing(untrained(task, config.seed, steps=config.steps, learning_rate=config.learning_rate)):
            pass
    folder = CellSearchFolder.open(config)
    tell: Tell = (lambda line: None) if ui == "none" else _print
    tell(f"search {folder.path}: {config.budget} structures, each learns {' and '.join(config.tasks)}")
    with locked(folder.path), _workers(config) as learn:
        try:
            searched = _search(config, folder, learn, tell)
            finals = _final_round(config, folder, learn, tell, searched)
        except KeyboardInterrupt:
            tell(f"Stopped; the same command with --run-dir {folder.path} goes on.")
            raise
    folder.write_table(searched, finals)
    best = tuple(record for record, _ in ranked(finals))
    file, picture = folder.write_champion(best[0], config.tasks)
    return CellSearchResult(str(folder.path), tuple(searched), best, str(file), str(picture))


@dataclass(frozen=True)
class _Work:
    """One training."""

    graph: CellGraph
    task: Task
    seed: int
    config: CellSearchConfig


Learn = Callable[[Sequence[_Work]], Iterator[Fitness]]


def _search(config: CellSearchConfig, folder: CellSearchFolder, learn: Learn, tell: Tell) -> list[Record]:
    """Try structures, generation by generation; those that the folder knows are not trained again."""
    search = StructureSearch(
        config.seed, parents=config.parents, children=config.children, most_nodes=config.most_nodes
    )
    records: list[Record] = []
    while len(records) < config.budget:
        asked = search.ask()
        seeds = [config.seed * _SEEDS + index for index in range(config.seeds_per_cell)]
        for record in _try(config, folder, learn, "cells", asked[: config.budget - len(records)], seeds):
            records.append(record)
            best = ranked(records)[0][0].candidate.number
            tell(f"cell {record.candidate.number} of {config.budget}: {_losses(record)}; best so far: cell {best}")
        folder.write_table(records)
        told = len(search.archive)
        if len(records) == told + len(asked):  # Else the budget has cut the generation.
            search.tell(asked, [record.errors() for record in records[told:]])
    return records


def _final_round(
    config: CellSearchConfig, folder: CellSearchFolder, learn: Learn, tell: Tell, searched: Sequence[Record]
) -> list[Record]:
    """Train the best structures and the LSTM once more, on seeds by which none was chosen; of equals it is the best."""
    chosen = [searched[0], *(record for record, _ in ranked(searched)[: config.finalists])]
    best = [one.candidate for one in searched if one in chosen]
    seeds = [config.seed * _SEEDS + _FINAL + index for index in range(config.final_seeds)]
    finals = []
    for record in _try(config, folder, learn, "final", best, seeds):
        finals.append(record)
        tell(f"final round, cell {record.candidate.number}: {_losses(record)}")
    return finals


def _try(
    config: CellSearchConfig,
    folder: CellSearchFolder,
    learn: Learn,
    which: Round,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
) -> Iterator[Record]:
    """Yield a record of each candidate, in their order, each written before it is given."""
    tasks = config.found_tasks()
    known = {one.number: folder.read(which, one) for one in candidates}
    known = {number: record for number, record in known.items() if record and _has(record, tasks, len(seeds))}
    missing = [one for one in candidates if one.number not in known]
    found = learn([_Work(one.graph, task, seed, config) for one in missing for task in tasks for seed in seeds])
    for one in candidates:
        record = known.get(one.number)
        if record is None:
            record = Record(one, {task.name: [next(found) for _ in seeds] for task in tasks})
            folder.write(which, record)
        yield record


def _has(record: Record, tasks: Sequence[Task], num_seeds: int) -> bool:
    """Return whether a record has as many trainings as are wanted."""
    return {task.name: num_seeds for task in tasks} == {name: len(found) for name, found in record.results.items()}


@contextmanager
def _workers(config: CellSearchConfig) -> Iterator[Learn]:
    """Give what trains, here or in processes of its own, which end with the block."""
    if config.jobs == 1:
        yield lambda work: map(_learn, work)
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(config.jobs, mp_context=context, initializer=terminate_with_parent)
    try:
        yield lambda work: pool.map(_learn, work)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown()


def _learn(work: _Work) -> Fitness:
    """Carry out one training."""
    config = work.config
    import_modules(config.env_import)
    return fitness(
        work.graph, work.task, work.seed, steps=config.steps, units=config.units, learning_rate=config.learning_rate
    )


def _losses(record: Record) -> str:
    return ", ".join(f"{task} {loss:.4g}" for task, loss in zip(record.results, record.errors(), strict=True))


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
