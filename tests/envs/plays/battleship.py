"""Battleship: the best play isn't known."""

VARIANTS = {
    "rlstm/BattleshipEasy-v0": [{"board_size": 2, "ship_sizes": [1, 1]}, {"board_size": 5, "ship_sizes": [3, 2]}]
}
