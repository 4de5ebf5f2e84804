"""Minesweeper: the best play isn't known."""

VARIANTS = {
    "rlstm/MinesweeperEasy-v0": [{"board_size": 2, "num_mines": 1}, {"board_size": 5, "num_mines": 20}],
}
