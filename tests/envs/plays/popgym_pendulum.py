"""POPGym's pendulums: the best play isn't known."""

VARIANTS = {"rlstm/PositionOnlyPendulumEasy-v0": [{"max_steps": 6}, {"max_steps": 30, "noise": 0.1}]}
