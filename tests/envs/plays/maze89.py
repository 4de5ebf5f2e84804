"""The 89-state maze; neither of its returns is exact."""

VARIANTS = {"rlstm/Maze89-v0": [{"max_steps": 13}, {"action_noise": 0.0, "feeler_noise": 1.0}]}
