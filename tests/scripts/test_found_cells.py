"""The script that compares a found cell with the LSTM: its table, and the cell it has."""

from rlstm.core.cell_graph_files import read_graph
from rlstm.core.cell_graphs import lstm_graph


def test_the_table_pairs_cells_by_seed_and_counts_what_left_the_finite_as_worst(scripts) -> None:
    script = scripts.found_cells
    losses = {("LSTM", 1): "1.0", ("LSTM", 2): "2.0", ("found", 1): "0.5", ("found", 2): "", ("found", 3): "0.1"}
    rows = [
        {"task": "counting", "cell": cell, "seed": str(seed), "loss": loss} for (cell, seed), loss in losses.items()
    ]
    *_, line = script.table(rows).splitlines()
    assert line == "| counting | 1.500; 1.500 | inf; inf | 1 of 2 |"
    assert script.table([]) == ""


def test_the_cell_is_another_one_than_the_lstm(scripts) -> None:
    assert read_graph(scripts.found_cells.CELL).table() != lstm_graph().table()
