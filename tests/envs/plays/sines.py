"""Superimposed sines: phases by least squares, as all frequencies are known."""

from typing import Any

import numpy as np

from rlstm.envs.sequences.sines import FREQUENCIES

VARIANTS = {
    "rlstm/Sines-v0": [
        {"num_sines": 5, "washout": 40, "free_run": 20},
        {"num_sines": 3, "washout": 1, "free_run": 1},
        {"num_sines": 4, "washout": 60},
    ]
}


def waves(times: Any, num_sines: int) -> Any:
    angles = np.multiply.outer(times, FREQUENCIES[:num_sines])
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)


def go_on_with_the_fitted_sines(observations: list[Any], env: Any) -> Any:
    task, step = env.task, len(observations) - 1
    if step < task.washout:
        return np.zeros((env.num_envs, 1))
    seen = np.stack([observation[:, 0] for observation in observations[: task.washout]]).astype(np.float64)
    amplitudes = np.linalg.pinv(waves(np.arange(-1, task.washout - 1), task.num_sines)) @ seen
    return np.clip(waves(step, task.num_sines) @ amplitudes, -1, 1)[:, None]


def predict_zero(observations: list[Any], env: Any) -> Any:
    return np.zeros((env.num_envs, 1))


OPTIMAL = {"rlstm/Sines-v0": go_on_with_the_fitted_sines}
MEMORYLESS = {"rlstm/Sines-v0": predict_zero}
