"""Mackey-Glass: no return is exact, so there is nothing to play."""

VARIANTS = {"rlstm/MackeyGlass-v0": [{"washout": 1, "free_run": 1}, {"washout": 30, "free_run": 20}]}
