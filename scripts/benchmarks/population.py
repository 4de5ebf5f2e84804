"""Measure the speed of populations: P nets stepped at once, readouts in closed form, play with an env, in one run.

    python -m scripts.benchmarks.population                 # prints, and writes scripts/results/population_speed.csv
    python -m scripts.benchmarks.population stepping        # one part, only printed

``stepping``: LSTM, 8 inputs, float32, P nets with E envs each. "Loop" is each net alone through its ordinary
``acting_snapshot``, one after the other. "Product" is torch's batched matrix product of such a step alone. "Floor" is
the least time of such a step: the larger of its multiplications at the measured rate of a large matrix product, and of
one pass over the weights at the measured rate of a sum of as many numbers. "Policies" is a whole
``PopulationSnapshot``: normalised observations, cell, readout of 4 outputs, choice.

``readouts``: least squares and ridge, float64, P 400, 600 rows, 30 features, 1 output; the floor is LAPACK's QR and SVD
alone.

``play``: ``play_population`` on the T-maze, P 1000, one env each, and the shares of net, env and bookkeeping.

The fastest call of each counts, as others may use the machine. Readouts and play, whose calls are longer than a turn of
the scheduler, are measured in processor time if there is one thread.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

import rlstm.envs  # noqa: F401 - registers our envs.
from rlstm.api.envs import resolve_env
from rlstm.cells.lstm import LSTMCell, LSTMState
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.process import prepare_process
from rlstm.evolution.parameters import ParameterLayout
from rlstm.evolution.population import PopulationSnapshot, play_population
from rlstm.evolution.readouts import least_squares, ridge
from rlstm.policies.config import PolicyConfig
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make
from scripts.results_table import ROOT, commit, write_rows

RESULTS = ROOT / "scripts" / "results" / "population_speed.csv"
COLUMNS = ("part", "case", "quantity", "value", "unit", "command", "commit", "device", "threads", "python", "torch")
SIZES = ((40, 1, 16), (256, 1, 16), (1000, 1, 16), (256, 8, 16), (256, 1, 64), (1000, 1, 64))
NUM_INPUTS, LARGE = 8, 768

Row = tuple[str, str, float, str]  # case, quantity, value, unit


def clock() -> float:
    """Return the seconds of processor time, or of the wall if several threads would add up."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def fastest(
    functions: dict[str, Callable[[], Any]], seconds: float, now: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the seconds of the fastest call of each, taken in turns for about so many seconds in all."""
    times = dict.fromkeys(functions, float("inf"))
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for name, function in functions.items():
            for _ in range(3):  # The first finds the caches as another variant left them.
                began = now()
                function()
                times[name] = min(times[name], now() - began)
    return times


def make_policy(observations: spaces.Space[Any], actions: spaces.Space[Any], hidden: int) -> RecurrentPolicy:
    """Return a policy without an encoder."""
    config = PolicyConfig(hidden_size=hidden, encoder_sizes=())
    return RecurrentPolicy(observations, actions, config, MemoryConfig(), InputsConfig())


def stepping(seconds: float) -> list[Row]:
    """Measure steps of P nets, whole policies, and the loop over nets."""
    square = torch.randn(LARGE, LARGE)
    gemm = 2 * LARGE**3 / fastest({"": lambda: square @ square}, seconds / 4)[""]
    rows: list[Row] = [(f"{LARGE} x {LARGE}", "matrix product", gemm / 1e9, "GFLOP/s")]
    for population, num_envs, hidden in SIZES:
        with torch.inference_mode():
            rows += stepping_at(population, num_envs, hidden, gemm, seconds)
    return rows


def stepping_at(population: int, num_envs: int, hidden: int, gemm: float, seconds: float) -> list[Row]:
    """Measure one size; no two variants share a turn, whose weights would drive each other out of the caches."""
    cell, width = LSTMCell(NUM_INPUTS, hidden), NUM_INPUTS + hidden
    weights = {name: 0.3 * torch.randn(population, *one.shape) for name, one in cell.named_parameters()}
    inputs, state = torch.randn(population * num_envs, NUM_INPUTS), some_state(population * num_envs, hidden)
    step = cell.population_snapshot(weights)
    matrix, seen = torch.randn(population, width, 4 * hidden), torch.randn(population, num_envs, width)
    bias = torch.randn(population, 1, 4 * hidden)
    functions: dict[str, Callable[[], Any]] = {
        "cell": lambda: step(inputs, state),
        "policies": policies(population, num_envs, hidden),
        "loop": loop(cell, weights, inputs, state, num_envs),
        "product": lambda: torch.baddbmm(bias, seen, matrix),
        "read": lambda: matrix.sum(),
    }
    times = {name: fastest({name: function}, seconds / 4)[name] for name, function in functions.items()}
    read = times.pop("read")
    times["floor"] = max(2 * matrix.numel() * num_envs / gemm, read)
    case, megabytes = f"P {population} E {num_envs} H {hidden}", matrix.numel() * 4 / 1e6
    rows = [(case, name, population * num_envs / taken / 1e6, "M net-steps/s") for name, taken in times.items()]
    return [
        *rows,
        (case, "cell over loop", times["loop"] / times["cell"], "x"),
        (case, "weights", megabytes, "MB"),
        (case, "weights read", megabytes / 1e3 / read, "GB/s"),
    ]


def some_state(rows: int, hidden: int) -> LSTMState:
    """Return a state in the middle of an episode."""
    return LSTMState(torch.randn(rows, hidden).tanh(), torch.randn(rows, hidden))


def loop(
    cell: LSTMCell, weights: dict[str, torch.Tensor], inputs: torch.Tensor, state: LSTMState, num_envs: int
) -> Callable[[], None]:
    """Return a step of every net by its own ``acting_snapshot``."""
    steps = []
    for index in range(len(weights["bias_ih"])):
        one = LSTMCell(cell.input_size, cell.hidden_size)
        one.load_state_dict({name: value[index] for name, value in weights.items()})
        steps.append(one.acting_snapshot())
    parts = list(zip(inputs.split(num_envs), state.h.split(num_envs), state.c.split(num_envs), strict=True))

    def run() -> None:
        for step, (seen, h, c) in zip(steps, parts, strict=True):
            step(seen, LSTMState(h, c))

    return run


def policies(population: int, num_envs: int, hidden: int) -> Callable[[], Any]:
    """Return a step of P whole policies."""
    policy = make_policy(spaces.Box(-1, 1, (NUM_INPUTS,), np.float32), spaces.Discrete(4), hidden)
    layout = ParameterLayout(policy)
    snapshot = PopulationSnapshot(policy, layout, 0.3 * torch.randn(population, layout.num_genes))
    state, inside = (some_state(population * num_envs, hidden),), torch.zeros(population * num_envs, dtype=torch.bool)
    inputs = PolicyInputs(torch.randn(population * num_envs, NUM_INPUTS))
    return lambda: snapshot.act(inputs, state, inside, deterministic=True)


def readouts(seconds: float) -> list[Row]:
    """Measure readouts in closed form."""
    population, num_rows, width = 400, 600, 30
    features = torch.randn(population, num_rows, width, dtype=torch.float64).tanh()
    targets = torch.randn(num_rows, 1, dtype=torch.float64)

    def floor() -> None:
        for some in features.split(14):
            torch.linalg.svd(torch.linalg.qr(some, mode="r").R, full_matrices=False)

    functions = {
        "least_squares": lambda: least_squares(features, targets),
        "ridge": lambda: ridge(features, targets),
        "QR and SVD alone": floor,
    }
    case = f"P {population} rows {num_rows} features {width}"
    return [(case, name, taken * 1e3, "ms") for name, taken in fastest(functions, 2 * seconds, clock).items()]


def play(seconds: float) -> list[Row]:
    """Measure play with an env, and what the net and the env take of it."""
    population = 1000
    config = EnvConfig(env="rlstm/TMaze-v0", num_envs=population)
    envs = make(resolve_env(config), config, MemoryConfig())
    policy = make_policy(envs.observation_space, envs.action_space, 16)
    layout = ParameterLayout(policy)
    genomes = torch.randn(population, layout.num_genes)
    best: dict[str, float] = {"all": float("inf")}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        taken = {"net": 0.0, "env": 0.0}
        with Timed(PopulationSnapshot, "act", taken, "net"), Timed(VectorEnvs, "step", taken, "env"):
            began = clock()
            result = play_population(policy, layout, genomes, envs, seeds=[3])
            taken["all"] = clock() - began
        best = min(best, taken, key=lambda one: one["all"])
    envs.close()
    steps, rest = int(result.lengths.sum()), best["all"] - best["net"] - best["env"]
    rows = [("rlstm/TMaze-v0 P 1000 H 16", "play_population", steps / best["all"] / 1e6, "M env steps/s")]
    parts = {"share of net": best["net"], "share of env": best["env"], "share of bookkeeping": rest}
    return rows + [(rows[0][0], name, 100 * value / best["all"], "%") for name, value in parts.items()]


class Timed:
    """Adds up the time spent in a method of a class, as long as it is entered."""

    def __init__(self, owner: type, name: str, taken: dict[str, float], key: str) -> None:
        self.owner, self.name, self.original = owner, name, getattr(owner, name)
        original = self.original

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = clock()
            outcome = original(*args, **kwargs)
            taken[key] += clock() - began
            return outcome

        self.timed = timed

    def __enter__(self) -> None:
        setattr(self.owner, self.name, self.timed)

    def __exit__(self, *_: object) -> None:
        setattr(self.owner, self.name, self.original)


PARTS: dict[str, Callable[[float], list[Row]]] = {"stepping": stepping, "readouts": readouts, "play": play}


def main() -> None:
    """Measure, print, and write the whole table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="only these, and write nothing")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each measurement")
    parser.add_argument("--num-threads", type=int, default=1)
    arguments = parser.parse_args()
    threads = prepare_process(arguments.num_threads)
    torch.manual_seed(0)
    origin = {
        "command": "python -m scripts.benchmarks.population",
        "commit": commit(),
        "device": f"cpu, {platform.machine()}",
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    rows = []
    for part in arguments.parts or PARTS:
        for case, quantity, value, unit in PARTS[part](arguments.seconds):
            print(f"{case:32s} {quantity:20s} {value:10.2f} {unit}", flush=True)
            rows.append(
                {"part": part, "case": case, "quantity": quantity, "value": f"{value:.3g}", "unit": unit, **origin}
            )
    if not arguments.parts:
        write_rows(RESULTS, COLUMNS, rows)


if __name__ == "__main__":
    main()
