"""Labelling whole sequences: CTC over an LSTM against a window classifier with an HMM, on unseen digits.

    python -m scripts.experiments.labelling                                # what a run is
    python -m scripts.experiments.labelling --methods window --seeds 0     # the baseline
    python -m scripts.experiments.labelling --methods ctc --seeds 0        # the preset digit-strips
    python -m scripts.experiments.labelling --tables                       # the table from the rows, nothing is trained

Both learn from ``rlstm/DigitStrips-v0`` with ``split`` train, and are measured on the same 1,000 strips of ``split``
test, plain ones, whose images neither has seen. The label error rate is the sum of the edit distances over the sum of
the labels (Graves et al., ICML 2006). The baseline is told at every step which part of which digit is passing by, CTC
only the strings. How much images are distorted, 0 for the baseline, and the preset's other settings were chosen on
``split`` validation by what learnt from ``split`` fit. Rows are in ``scripts/results/labelling.csv``.
"""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlstm.api.finished_runs import open_run
from rlstm.envs.base.labelling import LabelledSequences
from rlstm.envs.sequences.digit_strips import DigitStrips
from rlstm.losses.ctc import beam_labels, edit_distances, greedy_labels
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from scripts.experiments.training_run import MACHINE_COLUMNS, machine, make_parser, train
from scripts.experiments.window_hmm import WindowHMM, draw_batches
from scripts.results_table import PAGE, ROOT, append_row, markdown_table, marked, read_rows, write_between

RESULTS = ROOT / "scripts" / "results" / "labelling.csv"
BEGIN, END = "<!-- labelling: written by scripts/experiments/labelling.py -->", "<!-- end of labelling -->"
COLUMNS = ("method", "seed", "label_error_rate", "exact_strings", "strips", "seconds", "command", *MACHINE_COLUMNS)
TITLES = {
    "window": "window of 15 columns, perceptron and HMM, Viterbi",
    "ctc": "bidirectional LSTM, CTC, likeliest path",
    "ctc-beam": "bidirectional LSTM, CTC, prefix beam of 10",
}
PRESET = "digit-strips"
TEST_STRIPS, TEST_SEED = 1_000, 2006
REACH, HIDDEN_SIZE, BATCH_SIZE, BATCHES, LEARNING_RATE = 7, 256, 32, 3_000, 1e-3


def command(method: str, seed: int) -> str:
    """Return the command of a row."""
    if method == "window":
        return f"python -m scripts.experiments.labelling --methods window --seeds {seed}"
    return f"rlstm train teacher --preset {PRESET} --seed {seed} --num-threads 1"


def padded(strings: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return strings as rows filled up with -1."""
    width = max(map(len, strings))
    return torch.tensor([[*string, *[-1] * (width - len(string))] for string in strings])


def scores(found: torch.Tensor, labels: torch.Tensor) -> dict[str, str]:
    """Return the columns that say how right strings are."""
    distances = edit_distances(found, labels)
    return {
        "label_error_rate": f"{int(distances.sum()) / int((labels >= 0).sum()):.4f}",
        "exact_strings": f"{float((distances == 0).double().mean()):.4f}",
        "strips": str(len(labels)),
    }


def run_window(seed: int, test: LabelledSequences) -> dict[str, dict[str, str]]:
    """Fit the baseline; returns the scores by method."""
    torch.manual_seed(seed)
    task = DigitStrips(1)
    model = WindowHMM(task.height, task.num_symbols, REACH, HIDDEN_SIZE)
    model.fit(draw_batches(DigitStrips, np.random.default_rng(seed), BATCH_SIZE), BATCHES, LEARNING_RATE)
    found = model.decode(torch.as_tensor(test.inputs), torch.as_tensor(test.valid))
    return {"window": scores(padded(found), torch.as_tensor(test.labels))}


@torch.no_grad()
def read(policy: RecurrentPolicy, test: LabelledSequences) -> torch.Tensor:
    """Return what a policy puts out over the strips, ``(T, N, K + 1)``."""
    valid = torch.as_tensor(test.valid)
    is_first = torch.zeros_like(valid)
    is_first[0] = True
    is_first[1:] |= valid[:-1] & ~valid[1:]  # What reads back begins before the idle tails.
    inputs = PolicyInputs(torch.as_tensor(test.inputs).to(policy.dtype), None, None, None)
    return policy.outputs(inputs, is_first, policy.init_state(valid.shape[1]))


def run_ctc(seed: int, test: LabelledSequences) -> dict[str, dict[str, str]]:
    """Train the preset; returns the scores by method."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        train(shlex.split(command("ctc", seed))[1:], run_dir)
        policy = open_run(run_dir, "latest", acts=False).policy
    outputs, valid, labels = read(policy, test), torch.as_tensor(test.valid), torch.as_tensor(test.labels)
    blank = outputs.shape[-1] - 1
    return {
        "ctc": scores(greedy_labels(outputs, valid, blank=blank), labels),
        "ctc-beam": scores(beam_labels(outputs, valid, blank=blank)[0], labels),
    }


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the Markdown table, or nothing if there are no rows."""
    lines = []
    for method, title in TITLES.items():
        own = [row for row in rows if row["method"] == method]
        if own:
            rates = [100 * float(row["label_error_rate"]) for row in own]
            exact = [100 * float(row["exact_strings"]) for row in own]
            lines.append(
                [
                    marked(title, own),
                    str(len(own)),
                    f"{np.mean(rates):.1f} % ({min(rates):.1f} to {max(rates):.1f})",
                    f"{np.mean(exact):.1f} %",
                    f"{np.median([float(row['seconds']) for row in own]):.0f} s",
                ]
            )
    return markdown_table(["method", "seeds", "label error rate", "exact strings", "wall"], lines)


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, [0])
    parser.add_argument("--methods", nargs="+", choices=("window", "ctc"), default=[])
    arguments = parser.parse_args()
    if not arguments.methods and not arguments.tables:
        print("\n".join(command(method, 0) for method in ("window", "ctc")))
        return
    torch.set_num_threads(arguments.num_threads)
    rows = read_rows(RESULTS)
    there = {(row["method"], row["seed"]) for row in rows}
    test = DigitStrips.sample_labelled(TEST_STRIPS, np.random.default_rng(TEST_SEED), split="test")
    for seed in arguments.seeds:
        for method in arguments.methods:
            if (method, str(seed)) in there:
                continue
            began: Any = time.perf_counter()
            found = run_window(seed, test) if method == "window" else run_ctc(seed, test)
            seconds = round(time.perf_counter() - began, 1)
            for name, score in found.items():
                told = {"method": name, "seed": seed, "seconds": seconds, "command": command(method, seed)}
                append_row(RESULTS, COLUMNS, {**told, **score, **machine(arguments.num_threads)})
                print(f"{name} seed {seed}: {score}, {seconds} s", flush=True)
    write_between(PAGE, BEGIN, END, table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
