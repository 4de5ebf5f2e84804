"""Settings for Evolino."""

from __future__ import annotations

from functools import partial

from rlstm.training.presets.preset import Preset, preset, task

_evolino = partial(preset, "evolino")
# Sums of sines: weights so small that memories are nearly linear, which float64 bears; no biases, as sines have none.
_SINES = {
    "env": "rlstm/Sines-v0",
    "dtype": "float64",
    "total_steps": 60_000,
    "num_envs": 2,
    "population": 20,
    "input_gain": 1e-4,
    "biases": False,
    "washout": 100,
    "teacher_sequences": 6,
}

NEUROEVOLUTION: dict[str, Preset] = {
    "tmaze-evolino": _evolino(
        "Bakker's T-maze, corridor 20, by neuroevolution: an LSTM of 4 cells and its readout.",
        task("rlstm/TMaze-v0", 2_000_000, corridor_length=20),
        eval_every=250_000,
        num_envs=4,
        hidden_size=4,
        population=64,
        sigma=5.0,  # Gates that are open or shut from the start: around 0 the memory fades within some steps.
        confirm_episodes=32,
    ),
    "double-pole": _evolino(
        "Balance two poles without seeing velocities, and bring them to rest, by evolution of five weights.",
        task("rlstm/DoublePoleNoVel-v0", 400_000, fitness="damping"),
        num_envs=1,
        cell="elman",
        hidden_size=1,
        squash_actions=True,
        strategy="cma-es",
        population=8,
        sigma=1.0,
        least_sigma=0.3,
        patience=30,
        biases=False,
        confirm_episodes=1,
        eval_episodes=1,
    ),
    "sines": _evolino(
        "Go on with a sum of 2 sines alone, by Evolino: seconds.",
        _SINES,
        env_kwargs={"feedback": True, "num_sines": 2},
        hidden_size=10,
        sigma=0.3,
    ),
    "sines-5": _evolino(
        "Go on with a sum of 5 sines alone, by Evolino.",
        _SINES,
        env_kwargs={"feedback": True, "num_sines": 5},
        hidden_size=40,
        sigma=0.25,
    ),
    "anbncn": _evolino(
        "Count: a^n b^n c^n by Evolino, n up to 10; the champion handles longer ones.",
        task("rlstm/AnBnCn-v0", 1_200_000, max_n=10),
        dtype="float64",
        eval_every=0,
        num_envs=8,
        hidden_size=8,
        population=50,
        sigma=1.0,
        readout="lstsq",
        fitness="error",  # It goes on telling better counters from good ones when all answers are right.
        teacher_sequences=8,
        confirm_episodes=64,
    ),
    "mackey-glass": _evolino(
        "Go on with a chaotic signal for 84 steps, by Evolino.",
        task("rlstm/MackeyGlass-v0", 20_000, feedback=True, free_run=84),
        dtype="float64",
        num_envs=2,
        population=10,
        hidden_size=200,
        sigma=0.11,
        input_gain=3.0,
        washout=50,
        teacher_sequences=30,
    ),
}
