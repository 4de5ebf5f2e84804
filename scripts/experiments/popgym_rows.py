"""POPGym's tasks at three levels: the settings with which they are run, and what others reached."""

from __future__ import annotations

from typing import NamedTuple

LEVELS = ("Easy", "Medium", "Hard")


class Row(NamedTuple):
    """A task at its three levels; None where nothing is published."""

    task: str
    preset: str
    steps: tuple[int, int, int]  # Of a rollout, --num-steps: whole episodes where they are not too long.
    gru: tuple[float | None, float | None, float | None] = (None, None, None)
    """Of another PPO with a GRU, best epoch of 3 million steps (bryjudy/fly-critic)."""
    best: tuple[float | None, float | None, float | None] = (None, None, None)
    """Of the best of POPGym's 13 models, best epoch of 15 million steps (Morad et al. 2023, as quoted there)."""
    flags: tuple[str, ...] = ()


ROWS = (
    Row("RepeatFirst", "popgym-recall", (104, 128, 128), (0.860, -0.419, -0.306), (1.0, 1.0, 0.969)),
    Row("RepeatPrevious", "popgym-recall", (104, 104, 156), (0.890, -0.461, -0.470), (1.0, 0.789, 0.191)),
    Row("Autoencode", "popgym-recall", (104, 208, 312), (-0.454, -0.470, -0.477), (-0.283, -0.420, -0.448)),
    Row("CountRecall", "popgym-recall", (104, 104, 208), (-0.655, -0.763, -0.872), (0.509, -0.519, -0.470)),
    Row("HigherLower", "popgym-recall", (104, 104, 156), (0.518, 0.519, 0.516), (0.529, 0.513, 0.509)),
    Row(
        "MultiarmedBandit",
        "popgym",
        (200, 200, 200),
        (0.327, 0.048, 0.030),
        (0.631, 0.598, 0.574),
        ("--gamma", "0.8"),
    ),
    Row("PositionOnlyCartPole", "popgym", (200, 200, 200), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    Row("NoisyPositionOnlyCartPole", "popgym", (200, 200, 200), (1.0, 0.693, 0.373), (0.995, 0.659, 0.404)),
    Row("VelocityOnlyCartPole", "popgym", (200, 200, 200)),
    Row("PositionOnlyPendulum", "popgym", (200, 150, 100)),
    Row("NoisyPositionOnlyPendulum", "popgym", (200, 200, 200)),
    Row("Battleship", "popgym", (128, 128, 144)),
    Row("Concentration", "popgym", (104, 208, 104)),
    Row("Minesweeper", "popgym", (64, 64, 64)),
)
"""All fourteen. Where actions change nothing but their own reward, γ is 0: no later reward is their doing."""


def figure(value: float | None) -> str:
    """Return a published figure as others write it: .890, -.461, 1.000."""
    return "" if value is None else f"{value:.3f}".replace("0.", ".", 1)
