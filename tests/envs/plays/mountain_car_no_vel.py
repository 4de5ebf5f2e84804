"""The continuous mountain car without velocities."""

VARIANTS = {"rlstm/MountainCarContinuousNoVel-v0": [{"max_steps": 12}]}
