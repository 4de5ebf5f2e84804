"""Measuring spike delays and generating timed spikes: counting does both."""

from typing import Any

import numpy as np

MEASURE, GENERATE = "rlstm/MeasureSpikes-v0", "rlstm/GenerateSpikes-v0"
SHORT = [
    {"interval": 1, "max_delay": 1, "num_intervals": 1},
    {"interval": 3, "max_delay": 4, "num_intervals": 3},
]
VARIANTS = {MEASURE: SHORT, GENERATE: SHORT}


def count_the_steps_between_spikes(observations: list[Any], env: Any) -> Any:
    task, steps_since_spike = env.task, np.zeros(env.num_envs)
    for spikes in observations[:-1]:
        steps_since_spike = np.where(spikes == 1, 0, steps_since_spike + 1)
    # Envs whose episode is over have gone on to the next.
    return np.clip((steps_since_spike + 1 - task.interval) / task.max_delay, 0, 1)[:, None]


def count_down_to_the_next_spike(observations: list[Any], env: Any) -> Any:
    task, steps_left = env.task, np.zeros(env.num_envs)
    for delays in observations:
        length = task.interval + np.rint(delays[:, 0] * task.max_delay)
        steps_left = np.where(steps_left == 0, length, steps_left) - 1
    return (steps_left == 0).astype(np.float64)[:, None]


def answer_the_mean_delay(observations: list[Any], env: Any) -> Any:
    return np.full((env.num_envs, 1), 0.5)


def answer_the_share_of_spikes(observations: list[Any], env: Any) -> Any:
    return 1 / (env.task.interval + np.rint(observations[-1] * env.task.max_delay))


OPTIMAL = {MEASURE: count_the_steps_between_spikes, GENERATE: count_down_to_the_next_spike}
MEMORYLESS = {MEASURE: answer_the_mean_delay, GENERATE: answer_the_share_of_spikes}
