"""Measure every cell over a sequence with resets, forward and backward, beside others' in one run.

    python -m scripts.benchmarks.cells                       # all cells, T 128, I 64, B 16 and 64, H 64 and 128
    python -m scripts.benchmarks.cells --cells lstm gru --num-rows 64 --hidden-sizes 128 --rates 0.01
    python -m scripts.benchmarks.cells --device cuda

Beside each cell's fast path and its loop of steps stand ``torch.nn.LSTM`` and ``GRU``, which know of no resets, a loop
over ``torch.nn.LSTMCell`` with masks, and, if they are installed, the back ends of TorchRL's ``LSTMModule``. All
take turns of two calls; the second counts, so that what the one before left in caches and memory does not count, and
the median of the turns. What takes longer than five seconds has one turn, and TorchRL's back ends of this kind have one
rate of resets. ``ratio`` is to ``torch.nn.LSTM`` of the same size. The floor is the time that the products with the
weights alone would take, three times those of the forward pass, at the rate of a large matrix product in the same run;
what is done to single numbers is not in it.

Rows are in ``scripts/results/cell_speed.csv``, which is written anew.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rlstm.cells import CELLS, make_cell
from rlstm.core.process import prepare_process
from scripts.results_table import ROOT, commit, write_rows

RESULTS = ROOT / "scripts" / "results" / "cell_speed.csv"
COLUMNS = (
    "cell",
    "path",
    "T",
    "B",
    "I",
    "H",
    "resets",
    "milliseconds",
    "ratio",
    "floor",
    "command",
    "commit",
    "device",
)
COLUMNS = (*COLUMNS, "threads", "python", "torch")
NUM_STEPS, WIDTH = 128, 64
LARGE = 1024
WARM_UP = 2
SLOW = 5e3  # Milliseconds of a call that is not repeated.

Variant = tuple[str, str, float, int]  # cell, path, rate of resets, weights in products
Run = Callable[[], Tensor]


def masks(num_rows: int, rate: float, device: torch.device) -> Tensor:
    """Return ``is_first`` ``(T, B)`` with resets at this rate."""
    return torch.rand(NUM_STEPS, num_rows, device=device) < rate


def products(module: nn.Module) -> int:
    """Return the weights that inputs or states are multiplied by."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() > 1)


def ours(name: str, inputs: Tensor, hidden: int, rates: list[float]) -> Iterator[tuple[Variant, Run]]:
    """Yield a cell's fast path at every rate, and its loop."""
    device, num_rows = inputs.device, inputs.shape[1]
    cell = make_cell(name, WIDTH, hidden).to(device)
    state, path, size = cell.init_state(num_rows), cell.sequence_path(device), products(cell)
    for rate in rates:
        is_first = masks(num_rows, rate, device)
        yield (name, path, rate, size), lambda mask=is_first: cell.sequence(inputs, state, mask)[0]
    is_first = masks(num_rows, 0.01, device)
    yield (name, "reference: loop of steps", 0.01, size), lambda: cell.reference_sequence(inputs, state, is_first)[0]


def others(inputs: Tensor, hidden: int, rates: list[float]) -> Iterator[tuple[Variant, Run]]:
    """Yield what PyTorch and TorchRL have."""
    device, num_rows = inputs.device, inputs.shape[1]
    for name, kind in (("torch.nn.LSTM", nn.LSTM), ("torch.nn.GRU", nn.GRU)):
        dense = kind(WIDTH, hidden).to(device)
        yield (name, "dense", 0.0, products(dense)), lambda dense=dense: dense(inputs)[0]
    one = nn.LSTMCell(WIDTH, hidden).to(device)
    keep = (~masks(num_rows, 0.01, device)).unsqueeze(-1).to(inputs.dtype)

    def loop() -> Tensor:
        h = c = inputs.new_zeros(num_rows, hidden)
        outputs = []
        for inputs_t, keep_t in zip(inputs, keep, strict=True):
            h, c = one(inputs_t, (h * keep_t, c * keep_t))
            outputs.append(h)
        return torch.stack(outputs)

    yield ("torch.nn.LSTMCell", "loop with masks", 0.01, products(one)), loop
    yield from torchrl_backends(inputs, hidden, rates)


def torchrl_backends(inputs: Tensor, hidden: int, rates: list[float]) -> Iterator[tuple[Variant, Run]]:
    """Yield TorchRL's back ends, if it is installed; one that can't run here is named and left out."""
    try:
        from tensordict import TensorDict
        from torchrl.modules import LSTMModule, set_recurrent_mode
    except ImportError:
        return
    device, num_rows = inputs.device, inputs.shape[1]

    def make(backend: str, rate: float) -> tuple[Variant, Run]:
        module = LSTMModule(WIDTH, hidden, in_key="x", out_key="y", recurrent_backend=backend, device=device)
        values = TensorDict(
            {
                "x": inputs.transpose(0, 1),
                "is_init": masks(num_rows, rate, device).t().unsqueeze(-1),
                "recurrent_state_h": inputs.new_zeros(num_rows, NUM_STEPS, 1, hidden),
                "recurrent_state_c": inputs.new_zeros(num_rows, NUM_STEPS, 1, hidden),
            },
            [num_rows, NUM_STEPS],
        )

        def run() -> Tensor:
            with set_recurrent_mode(True):
                outputs: Tensor = module(values.clone(recurse=False))["y"]
            return outputs

        run().sum().backward()
        return ("torchrl LSTMModule", backend, rate, products(module)), run

    for backend in ("pad", "scan", "triton"):
        try:
            for rate in sorted(rates, key=lambda rate: abs(rate - 0.01)):
                began = now(device)
                yield make(backend, rate)
                if now(device) - began > SLOW / 1e3:
                    break
        except Exception as error:
            print(f"torchrl LSTMModule, {backend}: {type(error).__name__}: {str(error).splitlines()[0]}")


def measure(runs: dict[Variant, Run], turns: int, device: torch.device) -> dict[Variant, float]:
    """Return the median milliseconds of each, forward and backward, taken in turns."""
    times: dict[Variant, list[float]] = {variant: [] for variant in runs}
    for turn in range(turns + WARM_UP):
        for variant, run in runs.items():
            if times[variant] and times[variant][0] > SLOW:
                continue
            if turn >= WARM_UP:
                run().sum().backward()
            began = now(device)
            run().sum().backward()
            milliseconds = (now(device) - began) * 1e3
            if turn >= WARM_UP or milliseconds > SLOW:
                times[variant].append(milliseconds)
    return {variant: statistics.median(values) for variant, values in times.items()}


def now(device: torch.device) -> float:
    """Return the time at which all that was asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def product_rate(device: torch.device) -> float:
    """Return the multiplications and additions a second of a large matrix product: the best of many."""
    matrix = torch.randn(LARGE, LARGE, device=device)
    best = float("inf")
    for _ in range(30):
        began = now(device)
        matrix @ matrix
        best = min(best, now(device) - began)
    return 2 * LARGE**3 / best


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    vectors = [name for name, cell in CELLS.items() if not cell.reads_maps]
    parser.add_argument("--cells", nargs="+", choices=vectors, default=vectors)
    parser.add_argument("--num-rows", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.01, 0.1])
    parser.add_argument("--turns", type=int, default=11)
    parser.add_argument("--num-threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-rows", action="store_true", help="only print")
    arguments = parser.parse_args()
    threads, device = prepare_process(arguments.num_threads), torch.device(arguments.device)
    machine = f"cpu, {platform.machine()}" if device.type == "cpu" else torch.cuda.get_device_name(device)
    circumstances = {"commit": commit(), "device": machine, "threads": threads, "python": platform.python_version()}
    circumstances |= {"torch": torch.__version__, "command": "python -m scripts.benchmarks.cells"}
    rows = []
    for num_rows, hidden in itertools.product(arguments.num_rows, arguments.hidden_sizes):
        torch.manual_seed(0)
        inputs = torch.rand(NUM_STEPS, num_rows, WIDTH, device=device, requires_grad=True)
        runs = dict(others(inputs, hidden, arguments.rates))
        for name in arguments.cells:
            runs |= ours(name, inputs, hidden, arguments.rates)
        times, rate_of_products = measure(runs, arguments.turns, device), product_rate(device)
        dense = times["torch.nn.LSTM", "dense", 0.0, 4 * hidden * (WIDTH + hidden)]
        for (name, path, rate, weights), milliseconds in times.items():
            floor = 3 * 2 * weights * NUM_STEPS * num_rows / rate_of_products * 1e3
            figures = {"milliseconds": f"{milliseconds:.2f}", "ratio": f"{milliseconds / dense:.2f}"}
            figures |= {"cell": name, "path": path, "resets": rate, "floor": f"{floor:.2f}"}
            rows.append({**figures, "T": NUM_STEPS, "B": num_rows, "I": WIDTH, "H": hidden, **circumstances})
            size = f"{name:18s} B{num_rows:<4d} H{hidden:<4d} {rate:4.0%}"
            print(f"{size} {milliseconds:8.1f} ms {milliseconds / dense:5.2f}x  floor {floor:6.1f}  {path}")
    if not arguments.no_rows:
        write_rows(RESULTS, COLUMNS, rows)


if __name__ == "__main__":
    main()
