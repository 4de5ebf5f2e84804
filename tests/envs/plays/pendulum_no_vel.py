"""The pendulum without velocities."""

VARIANTS = {"rlstm/PendulumNoVel-v0": [{"max_steps": 12}]}
