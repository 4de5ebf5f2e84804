"""Find faults of a machine where its signal is not as predicted, though its values are as usual.

    python -m scripts.examples.anomalies

A noisy signal of two harmonics under a load that varies is learnt by predicting its next value. Faults: the sensor
sticks, the phase slips, the second harmonic is gone, a single value is off. A signal's score is its largest error of
prediction, the control's its largest value; the alarm is where one in a hundred faultless signals is above.
"""

from __future__ import annotations

import tempfile
from functools import partial

import gymnasium as gym
import numpy as np

import rlstm

LENGTH, WARM_UP, TESTS, FALSE_ALARMS = 150, 40, 500, 0.01
FAULTS = ("stuck sensor", "phase slip", "harmonic gone", "value off")


def signal(rng, fault=None):
    """Return the values of a signal, (LENGTH,)."""
    steps, at = np.arange(LENGTH), int(rng.integers(WARM_UP + 10, LENGTH - 30))
    in_fault, slips = (steps >= at) & (steps < at + 20), (steps >= at) & (fault == "phase slip")
    angle = 2 * np.pi * (rng.uniform(0.035, 0.045) * steps + rng.uniform() + slips / 6)
    load = 1.0 + 0.3 * np.sin(2 * np.pi * (steps / LENGTH + rng.uniform()))
    second = 0.4 * np.sin(2 * angle + 1.0) * ~(in_fault & (fault == "harmonic gone"))
    values = load * (np.sin(angle) + second) + 0.03 * rng.normal(size=LENGTH)
    values[in_fault & (fault == "stuck sensor")] = values[at - 1]
    values[at] -= 0.5 * np.sign(values[at]) * (fault == "value off")
    return values.astype(np.float32)


class NextValue(gym.Env):
    """See a faultless signal value by value, and tell the next one."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Draw a signal."""
        super().reset(seed=seed)
        self.values, self.now = signal(self.np_random), 0
        return self.values[[0]], {}

    def step(self, action):
        """Go on by a value, and say what was right."""
        self.now += 1
        seen = self.values[[self.now]]
        return seen, -float((action - seen).item() ** 2), self.now == LENGTH - 1, False, {"target": seen}


def largest_errors(agent, signals):
    """Return the largest error of prediction in each of the signals (N, LENGTH), once the memory is warm."""
    agent.reset()
    predicted = np.stack([agent.act(signals[:, [step]])[:, 0] for step in range(LENGTH - 1)], axis=1)
    return np.abs(predicted - signals[:, 1:])[:, WARM_UP:].max(axis=1)


def main() -> None:
    gym.register("example/NextValue-v0", entry_point=NextValue)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"learning_rate": 0.01, "anneal_lr": True, "washout": WARM_UP}
        run = {"total_steps": 500_000, "eval_episodes": 0, "num_threads": 1, "ui": "none", "run_dir": f"{folder}/run"}
        result = rlstm.train("teacher", env="example/NextValue-v0", **settings, **run)
        agent = rlstm.load(result.run_dir, num_envs=TESTS)
    rng = np.random.default_rng(1)
    tests = {name: np.stack([signal(rng, name) for _ in range(TESTS)]) for name in (None, *FAULTS)}
    print(f"share of faulty signals found at {FALSE_ALARMS:.0%} false alarms:", ", ".join(FAULTS))
    scores = {"largest value": lambda signals: np.abs(signals).max(axis=1), "LSTM": partial(largest_errors, agent)}
    for name, score in scores.items():
        alarm = np.quantile(score(tests[None]), 1 - FALSE_ALARMS)
        print(f"  {name}:", ", ".join(f"{np.mean(score(tests[fault]) > alarm):.2f}" for fault in FAULTS))


if __name__ == "__main__":
    main()
