"""Compare a cell that ``rlstm search-cell`` found with the LSTM, on the tasks that chose it and on one that did not.

    python -m scripts.experiments.found_cells [--seeds 1000 ... 1009]    # rows are written one by one
    python -m scripts.experiments.found_cells --tables                   # the table from the rows

The cell is ``scripts/results/cells/found.toml``, champion of ``rlstm search-cell --budget 30``. Both cells have as many
weights as an LSTM of 16 units, and learn each task as in the search: 50,000 steps of new sequences, Adam with a step
size of 0.02. A loss is the mean over the second half of the updates. Seeds are none of the search's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlstm.api.cell_search.fitness import fitness
from rlstm.api.cell_search.plan import TASKS, CellSearchConfig, Task
from rlstm.core.cell_graph_files import read_graph
from rlstm.core.cell_graphs import lstm_graph
from scripts.experiments.training_run import MACHINE_COLUMNS, machine, make_parser
from scripts.results_table import PAGE, ROOT, markdown_table, put_row, read_rows, write_between

CELL = ROOT / "scripts" / "results" / "cells" / "found.toml"
RESULTS = ROOT / "scripts" / "results" / "found_cells.csv"
KEYS = ("task", "cell", "seed")
COLUMNS = (*KEYS, "loss", "right", "units", "parameters", *MACHINE_COLUMNS)
BEGIN = "<!-- found cells: written by scripts/experiments/found_cells.py -->"
END = "<!-- end of found cells -->"
NEW = Task("embedded Reber, new to it", "rlstm/EmbeddedReber-v0")
COMPARED = (*TASKS.values(), NEW)


def compare(seeds: Sequence[int], num_threads: int) -> None:
    """Train what is not there yet and write its rows."""
    settings = CellSearchConfig()
    graphs = {"LSTM": lstm_graph(), "found": read_graph(CELL)}
    there = {(row["task"], row["cell"], int(row["seed"])) for row in read_rows(RESULTS)}
    for seed in seeds:
        for task in COMPARED:
            for name, graph in graphs.items():
                if (task.name, name, seed) in there:
                    continue
                sizes = {"steps": settings.steps, "units": settings.units, "learning_rate": settings.learning_rate}
                found = fitness(graph, task, seed, **sizes)
                row = {"task": task.name, "cell": name, "seed": seed, "loss": found.loss, "right": found.right}
                row |= {"units": found.hidden_size, "parameters": found.parameters, **machine(num_threads)}
                put_row(RESULTS, COLUMNS, row, KEYS)
                print(f"{task.name}, seed {seed}, {name}: loss {found.loss}", flush=True)


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the Markdown table, a line a task; a seed whose numbers left the finite is the worst."""
    lines = []
    for task in COMPARED:
        losses = {
            name: {
                int(row["seed"]): float(row["loss"] or "inf")
                for row in rows
                if (row["task"], row["cell"]) == (task.name, name)
            }
            for name in ("LSTM", "found")
        }
        seeds = sorted(losses["LSTM"].keys() & losses["found"].keys())
        if seeds:
            pairs = np.array([[losses[name][seed] for name in ("LSTM", "found")] for seed in seeds])
            medians, better = np.median(pairs, axis=0), int((pairs[:, 1] < pairs[:, 0]).sum())
            means = pairs.mean(axis=0)
            cells = [f"{median:.3f}; {mean:.3f}" for median, mean in zip(medians, means, strict=True)]
            lines.append([task.name, *cells, f"{better} of {len(seeds)}"])
    return markdown_table(["", "LSTM: loss, median; mean", "found", "seeds for which it is the smaller"], lines)


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, range(1000, 1010))
    arguments = parser.parse_args()
    if not arguments.tables:
        compare(arguments.seeds, arguments.num_threads)
    write_between(PAGE, BEGIN, END, table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
