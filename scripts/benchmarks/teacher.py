"""Measure training with a teacher beside the same loop written by hand over ``torch.nn.LSTM``: seconds an update.

    python -m scripts.benchmarks.teacher [--turns 9] [--num-threads 1]

Both draw 64 new sequences of 128 steps of the Mackey-Glass series an update and take a step of Adam down the mean
squared error of an LSTM of 128 cells and a linear layer, gradients clipped. The one by hand has no resets, flags, logs
or metrics, and draws with ``sample_sequences``; "given" is that loop on sequences drawn beforehand. They take turns,
and the median ratio of neighbouring turns is printed, as the speed of a shared machine drifts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

import rlstm.envs  # noqa: F401 - registers our envs.
from rlstm.agents import load_agent
from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.core.process import prepare_process
from rlstm.envs.sequences.mackey_glass import MackeyGlass
from rlstm.training.teaching import Teaching

STEPS, SEQUENCES, CELLS = 128, 64, 128
TASK = {"washout": 28, "free_run": STEPS - 28}


def ours() -> Callable[[], object]:
    """Return the update of a run."""
    config = make_config(
        "teacher",
        env="rlstm/MackeyGlass-v0",
        env_kwargs=TASK,
        batch_size=SEQUENCES,
        hidden_size=CELLS,
        device="cpu",
    )
    return Teaching(config, load_agent("teacher")[0], resolve_env(config.env)).update


class ByHand(nn.Module):
    """An LSTM and a linear layer, over whole sequences that all begin with an empty memory."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, CELLS), nn.Linear(CELLS, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return outputs ``(T, S, 1)`` of inputs ``(T, S, 2)``."""
        outputs: torch.Tensor = self.head(self.lstm(inputs)[0])
        return outputs


def by_hand(*, draws: bool) -> Callable[[], object]:
    """Return an update of the loop written by hand, on sequences that are new each time or always the same."""
    model, rng = ByHand(), np.random.default_rng(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets, _ = MackeyGlass.sample_sequences(SEQUENCES, rng, **TASK)
        return torch.from_numpy(inputs), torch.from_numpy(targets).float()

    given = draw()

    def update() -> None:
        inputs, targets = draw() if draws else given
        optimiser.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return update


def seconds(update: Callable[[], object], count: int) -> float:
    """Return the seconds of an update, a mean over some."""
    began = time.perf_counter()
    for _ in range(count):
        update()
    return (time.perf_counter() - began) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--updates", type=int, default=5, help="updates a turn")
    parser.add_argument("--num-threads", type=int, default=1)
    arguments = parser.parse_args()
    prepare_process(arguments.num_threads)
    ways = {"by hand": by_hand(draws=True), "given": by_hand(draws=False), "rlstm": ours()}
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for update in ways.values():
        seconds(update, 3)
    for _ in range(arguments.turns):
        for name, update in ways.items():
            measured[name].append(seconds(update, arguments.updates))
    for name, values in measured.items():
        ratio = statistics.median(one / base for one, base in zip(values, measured["by hand"], strict=True))
        print(f"{name:10s}{1e3 * statistics.median(values):8.1f} ms an update   {ratio:.2f} of by hand")


if __name__ == "__main__":
    main()
