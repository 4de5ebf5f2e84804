"""``rlstm search-cell``: search for structures of memory cells that learn some tasks better than an LSTM."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rlstm.api.cell_search.plan import CellSearchConfig
from rlstm.cli.answers import Answer
from rlstm.cli.parsing import JsonFlags, parse
from rlstm.cli.tables import facts, table
from rlstm.core.number_text import number, percent

if TYPE_CHECKING:
    from rlstm.api.cell_search.folder import Record
    from rlstm.api.cell_search.search import CellSearchResult

_SHOWN = 10  # Structures of the search; the table in the folder has all.


@dataclass(frozen=True, kw_only=True)
class SearchCellFlags(JsonFlags, CellSearchConfig):
    """Search for memory cells by evolution of their structure: graphs that begin as the LSTM, each trained shortly."""

    ui: Literal["auto", "plain", "none"] = "auto"
    """Lines on stderr, or none."""

    def __post_init__(self) -> None:
        """Leave it to the search to refuse values out of range."""


def run(words: list[str]) -> Answer:
    """Search, or go on with a search.

    Raises:
        ConfigError: If a setting makes no sense.
        RunDirectoryError: If the folder holds something else.
    """
    from rlstm.training.config import refusals_name_settings

    flags = parse(SearchCellFlags, words, "search-cell")
    with refusals_name_settings():
        config = CellSearchConfig(
            **{one.name: getattr(flags, one.name) for one in dataclasses.fields(CellSearchConfig)}
        )
    from rlstm.api.cell_search.search import search_cell_config

    return _answer(search_cell_config(config, ui="none" if flags.ui == "none" else "plain"))


def _answer(result: CellSearchResult) -> Answer:
    from rlstm.api.cell_search.folder import cell_facts, ranked

    champion = result.champion
    searched, finals = ranked(result.searched), ranked(result.finals)
    shown = f"The {_SHOWN} best" if len(searched) > _SHOWN else "All"
    name = f"cell {champion.candidate.number}" if champion.candidate.number else "the LSTM: no structure beat it"
    lines = {
        "champion": f"{name}; {cell_facts(champion.candidate.graph)}",
        "cell": result.champion_file,
        "picture": result.picture,
        "table": f"{result.run_dir}/archive.csv",
        "train": f"rlstm train ppo --env ID --cell {shlex.quote(result.champion_file)}",
    }
    parts = [
        f"{shown} of {len(searched)} structures of the search:\n\n{_table(searched[:_SHOWN])}",
        f"Final round, on fresh seeds:\n\n{_table(finals)}",
        facts(lines),
    ]
    values = {
        "run_dir": result.run_dir,
        "evaluated": len(searched),
        "champion": {**_values(champion), "mean_rank": finals[0][1]},
        "lstm": next(_values(one) for one in result.finals if not one.candidate.number),
        "finals": [{**_values(one), "mean_rank": rank} for one, rank in finals],
        "champion_file": result.champion_file,
        "picture": result.picture,
        "table": f"{result.run_dir}/archive.csv",
    }
    return Answer("\n\n".join(parts), values)


def _table(rows: list[tuple[Record, float]]) -> str:
    tasks = list(rows[0][0].results)
    header = [
        "cell",
        "mean rank",
        "nodes",
        *(f"{task}: {what}" for task in tasks for what in ("loss", "right")),
        "from",
    ]
    lines = []
    for record, rank in rows:
        one = record.candidate
        figures = [text for pair in zip(record.errors(), record.right(), strict=True) for text in _texts(*pair)]
        origin = "the LSTM" if one.parent is None else f"{one.parent}: {', '.join(one.changes)}"
        lines.append([str(one.number), number(rank), str(len(one.graph.nodes)), *figures, origin])
    return table(header, lines, wrapped=("from",))


def _texts(loss: float, right: float | None) -> tuple[str, str]:
    return ("failed" if loss == float("inf") else number(loss)), percent(right) if right is not None else ""


def _values(record: Record) -> dict[str, Any]:
    one = record.candidate
    units = {task: found[0].hidden_size for task, found in record.results.items()}
    return {
        "cell": one.number,
        "nodes": len(one.graph.nodes),
        "losses": dict(zip(record.results, record.errors(), strict=True)),
        "right_answers": dict(zip(record.results, record.right(), strict=True)),
        "units": units,
    }
