"""Tell activities apart by an accelerometer: walking, running, stairs, sitting, asked at the last step.

    python -m scripts.examples.activities

Windows of three seconds at 20 Hz are simulated: phase, rate, strength and the tilt of the device are random. Steps rise
quickly and fall slowly; on stairs they rise slowly and fall quickly, so that means and variances say nothing of the
difference. The control sees these alone and is linear, solved by least squares.
"""

from __future__ import annotations

import tempfile

import gymnasium as gym
import numpy as np

import rlstm

ACTIVITIES = ("walking", "running", "stairs", "sitting")
LENGTH, PERIOD, TESTS = 60, 0.05, 1000
RATES = {"walking": (1.5, 2.2), "running": (2.2, 3.0), "stairs": (1.5, 2.2), "sitting": (0.2, 0.6)}  # Hertz.
STRENGTHS = {"walking": (0.3, 0.8), "running": (0.5, 1.2), "stairs": (0.3, 0.8), "sitting": (0.05, 0.4)}  # In g.
RISES = {"walking": 0.2, "running": 0.5, "stairs": 0.8, "sitting": 0.5}  # Share of a step in which it goes up.


def window(rng, activity):
    """Return accelerations over g, (LENGTH, 3), as a device of random tilt has them."""
    rate, strength, rise = rng.uniform(*RATES[activity]), rng.uniform(*STRENGTHS[activity]), RISES[activity]
    cycle = (rng.uniform() + rate * PERIOD * np.arange(LENGTH)) % 1.0
    saw = np.where(cycle < rise, cycle / rise, (1.0 - cycle) / (1.0 - rise)) - 0.5
    body = np.stack([np.zeros(LENGTH), 0.3 * strength * saw, 1.0 + strength * saw], axis=1)
    axes, _ = np.linalg.qr(np.eye(3) + 0.35 * rng.normal(size=(3, 3)))
    return (body @ (axes * np.sign(np.diag(axes))) + 0.03 * rng.normal(size=body.shape)).astype(np.float32)


class Activity(gym.Env):
    """See a window step by step, and name the activity at its last one."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Discrete(len(ACTIVITIES))

    def reset(self, *, seed=None, options=None):
        """Draw an activity and a window of it."""
        super().reset(seed=seed)
        self.label = int(self.np_random.integers(len(ACTIVITIES)))
        self.window, self.now = window(self.np_random, ACTIVITIES[self.label]), 0
        return self.window[0], {}

    def step(self, action):
        """Go on by a reading; the answer to the last one counts."""
        self.now += 1
        is_over = self.now == LENGTH
        is_right = bool(is_over and action == self.label)
        info = {"target": self.label if is_over else -1, "is_success": is_right}
        return self.window[min(self.now, LENGTH - 1)], float(is_right), is_over, False, info


def linear_share(rng):
    """Return the share that a linear classifier of means and variances gets right."""
    labels = rng.integers(len(ACTIVITIES), size=4 * TESTS)
    windows = np.stack([window(rng, ACTIVITIES[label]) for label in labels])
    features = np.concatenate([np.ones((len(labels), 1)), windows.mean(axis=1), windows.var(axis=1)], axis=1)
    weights = np.linalg.lstsq(features[TESTS:], np.eye(len(ACTIVITIES))[labels[TESTS:]])[0]
    return np.mean((features[:TESTS] @ weights).argmax(axis=1) == labels[:TESTS])


def main() -> None:
    gym.register("example/Activity-v0", entry_point=Activity)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"memory_length": 20, "learning_rate": 0.01, "anneal_lr": True, "normalize_observations": True}
        run = {"total_steps": 800_000, "eval_episodes": 0, "num_threads": 1, "ui": "none", "run_dir": f"{folder}/run"}
        run_dir = rlstm.train("teacher", env="example/Activity-v0", **settings, **run).run_dir
        lstm = rlstm.evaluate(run_dir, episodes=TESTS).success_rate
    print(f"{TESTS} windows of {LENGTH * PERIOD:g} s, share told apart")
    print(f"  linear, by means and variances: {linear_share(np.random.default_rng(1)):.3f}")
    print(f"  LSTM: {lstm:.3f}")


if __name__ == "__main__":
    main()
