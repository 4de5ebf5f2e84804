"""Forecast a real series: the sunspots of the next year, by an env of one's own that says what was right.

    python -m scripts.examples.sunspots

An episode is a stretch of the years before 1930: the sunspots of a year are seen, and ``info["target"]`` of the step
says those of the next. The years from 1930 on are forecast one by one as they come; nothing is learnt from them, nor
by the linear autoregression beside it.
"""

from __future__ import annotations

import tempfile

import gymnasium as gym
import numpy as np

import rlstm

FIRST_TEST_YEAR, HUNDREDS, STRETCH, LAGS = 1930, 100.0, 80, 9


class Forecast(gym.Env):
    """Tell the next value of a series; an episode begins anywhere in it."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def __init__(self, series):
        self.series = series.astype(np.float32)

    def reset(self, *, seed=None, options=None):
        """Draw a place."""
        super().reset(seed=seed)
        self.now = int(self.np_random.integers(len(self.series) - STRETCH))
        self.last = self.now + STRETCH
        return self.series[[self.now]], {}

    def step(self, action):
        """Go on by a year, and say what was right."""
        self.now += 1
        seen = self.series[[self.now]]
        return seen, -float((action - seen).item() ** 2), self.now == self.last, False, {"target": seen}


def yearly_sunspots():
    """Return years and sunspots."""
    try:
        from statsmodels.datasets import sunspots
    except ImportError as error:
        raise SystemExit("This series is in statsmodels: pip install 'rlstm-torch[examples]'") from error
    return sunspots.load_pandas().data.to_numpy().T


def autoregression(series, is_train):
    """Return the forecasts of all values by the LAGS before, with weights of least squares; 0 for the first ones."""
    rows = np.array([[1.0, *series[t - LAGS : t]] for t in range(LAGS, len(series))])
    weights = np.linalg.lstsq(rows[is_train[LAGS:]], series[LAGS:][is_train[LAGS:]])[0]
    return np.append(np.zeros(LAGS), rows @ weights)


def main() -> None:
    years, sunspots = yearly_sunspots()
    is_train, series = years < FIRST_TEST_YEAR, sunspots / HUNDREDS
    gym.register("example/Sunspots-v0", entry_point=lambda: Forecast(series[is_train]))
    with tempfile.TemporaryDirectory() as folder:
        settings = {"hidden_size": 8, "learning_rate": 0.01, "anneal_lr": True, "weight_decay": 0.03, "washout": 10}
        run = {"total_steps": 300_000, "eval_episodes": 0, "num_threads": 1, "ui": "none", "run_dir": f"{folder}/run"}
        agent = rlstm.load(rlstm.train("teacher", env="example/Sunspots-v0", **settings, **run).run_dir)
    forecasts = {
        "as this year": np.append(0.0, series[:-1]),
        f"linear, of {LAGS} years": autoregression(series, is_train),
        "LSTM": np.append(0.0, [agent.act([value]).item() for value in series[:-1]]),
    }
    print(f"sunspots of the next year, {FIRST_TEST_YEAR} to {years[-1]:.0f}: root mean squared error")
    for name, forecast in forecasts.items():
        print(f"  {name}: {HUNDREDS * np.sqrt(np.mean((forecast - series)[~is_train] ** 2)):.1f}")


if __name__ == "__main__":
    main()
