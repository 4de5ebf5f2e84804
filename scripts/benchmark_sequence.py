"""Time of a sequence with resets, forward and backward, beside PyTorch's own without resets, in one run.

    python scripts/benchmark_sequence.py

T 128, H 128, I 64, two threads, flushed denormals. All variants take turns; the median of the turns is printed with the
ratio to ``torch.nn.LSTM`` (``GRU`` for the GRU) without resets. "loop" is the reference: a Python loop over steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rlstm.cells import CELLS, make_cell
from rlstm.devices import prepare_process

NUM_STEPS, WIDTH, HIDDEN = 128, 64, 128


def variants(cell_name: str, num_rows: int, rates: list[float]) -> dict[str, Callable[[], Tensor]]:
    """Return functions that run a sequence forward."""
    inputs = torch.randn(NUM_STEPS, num_rows, WIDTH, requires_grad=True)
    dense = (nn.GRU if cell_name == "gru" else nn.LSTM)(WIDTH, HIDDEN)
    cell = make_cell(cell_name, WIDTH, HIDDEN)
    state = cell.init_state(num_rows)
    functions: dict[str, Callable[[], Tensor]] = {"dense, no resets": lambda: dense(inputs)[0]}
    for rate in rates:
        is_first = torch.rand(NUM_STEPS, num_rows) < rate
        functions[f"rlstm, {rate:.0%} resets"] = lambda mask=is_first: cell.sequence(inputs, state, mask)[0]
    mask = torch.rand(NUM_STEPS, num_rows) < 0.01
    functions["loop, 1% resets"] = lambda: cell.reference_sequence(inputs, state, mask)[0]
    return functions


def measure(functions: dict[str, Callable[[], Tensor]], turns: int) -> dict[str, float]:
    """Return the median milliseconds of each, forward and backward."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(turns + 2):
        for name, function in functions.items():
            began = time.perf_counter()
            function().sum().backward()
            if turn >= 2:
                times[name].append((time.perf_counter() - began) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--num-threads", type=int, default=2)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=["lstm", "gru"])
    parser.add_argument("--num-rows", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.01, 0.05, 1.0])
    arguments = parser.parse_args()
    threads = prepare_process(arguments.num_threads)
    print(f"T {NUM_STEPS}, I {WIDTH}, H {HIDDEN}, float32, {threads} threads, torch {torch.__version__}")
    for cell_name in arguments.cells:
        for num_rows in arguments.num_rows:
            torch.manual_seed(0)
            results = measure(variants(cell_name, num_rows, arguments.rates), arguments.turns)
            dense = results["dense, no resets"]
            for name, milliseconds in results.items():
                print(f"{cell_name} B{num_rows:<3d} {name:20s} {milliseconds:7.1f} ms  {milliseconds / dense:.2f}x")


if __name__ == "__main__":
    main()
