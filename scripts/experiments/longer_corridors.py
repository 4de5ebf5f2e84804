"""T-mazes much longer than those of the training: what an agent that has learnt a corridor of 100 steps still keeps.

    python -m scripts.experiments.longer_corridors                  # the commands
    python -m scripts.experiments.longer_corridors --seeds 0 1 2    # train, evaluate in every corridor, write the rows
    python -m scripts.experiments.longer_corridors --tables         # the table from the rows, nothing is run

Memory begins with time scales of up to 1,000 steps (``--memory-length``). Evaluations are greedy, 64 mazes that no
training has used. Rows are in ``scripts/results/longer_corridors.csv``; a seed that is there is not run again. With
``--runs DIR`` run directories are kept there, and one that is there is evaluated instead of being trained; the commit
of a row is the one that trained.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.experiments.training_run import MACHINE_COLUMNS, machine, make_parser, train
from scripts.results_table import PAGE, ROOT, append_row, markdown_table, marked, read_rows, write_between

RESULTS = ROOT / "scripts" / "results" / "longer_corridors.csv"
BEGIN = "<!-- longer corridors: written by scripts/experiments/longer_corridors.py -->"
END = "<!-- end of longer corridors -->"
TRAINED, CORRIDORS, MAZES = 100, (100, 1_000, 10_000), 64
FLAGS = (
    f"train ppo --preset tmaze-long --env-kwargs corridor_length={TRAINED} --memory-length 1000 --num-steps 256 "
    "--total-steps 2000000 --eval-episodes 200"
)
COLUMNS = ("corridor", "seed", "successes", "mazes", "command", *MACHINE_COLUMNS)
HEAD = ("corridor", "seeds that turned the right way in every maze", "share of right turns", "worst seed")


def words(seed: int, num_threads: int) -> list[str]:
    """Return the words of a run but for its folder."""
    return shlex.split(f"{FLAGS} --seed {seed} --num-threads {num_threads}")


def run_seed(seed: int, num_threads: int, folder: Path) -> list[dict[str, Any]]:
    """Train one seed, if its run is not in the folder, and return a row for each corridor."""
    from rlstm.api.finished_runs import evaluate_run

    run_dir, command = folder / f"tmaze-{TRAINED}-seed{seed}", words(seed, num_threads)
    if not run_dir.exists():
        train(command, run_dir)
    versions = json.loads((run_dir / "versions.json").read_text(encoding="utf-8"))
    origin = {**machine(num_threads), "commit": (versions.get("git_commit") or "")[:10]}
    rows = []
    for corridor in CORRIDORS:
        result = evaluate_run(str(run_dir), episodes=MAZES, env_kwargs={"corridor_length": corridor})
        evaluation = f"rlstm evaluate RUN --episodes {MAZES} --env-kwargs corridor_length={corridor}"
        rows.append(
            {
                "corridor": corridor,
                "seed": seed,
                "successes": int(np.sum(result.successes == 1)),
                "mazes": MAZES,
                "command": f"rlstm {shlex.join(command)} --run-dir RUN && {evaluation}",
                **origin,
            }
        )
    return rows


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the Markdown table, or nothing if there are no rows."""
    lines = []
    for corridor in sorted({int(row["corridor"]) for row in rows}):
        own = [row for row in rows if int(row["corridor"]) == corridor]
        shares = np.array([int(row["successes"]) / int(row["mazes"]) for row in own])
        solved = f"{(shares == 1).sum()} of {len(own)}"
        lines.append([marked(f"{corridor:,}", own), solved, f"{shares.mean():.3f}", f"{shares.min():.3f}"])
    return markdown_table(HEAD, lines)


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, ())
    parser.add_argument("--runs", type=Path, metavar="DIR", help="keep the run directories in this folder")
    arguments = parser.parse_args()
    if not arguments.seeds and not arguments.tables:
        print(f"rlstm {shlex.join(words(0, arguments.num_threads))}")
        return
    there = {row["seed"] for row in read_rows(RESULTS)}
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            if str(seed) in there:
                continue
            rows = run_seed(seed, arguments.num_threads, arguments.runs or Path(folder))
            for row in rows:
                append_row(RESULTS, COLUMNS, row)
            print(f"seed {seed}: " + ", ".join(f"{row['corridor']}: {row['successes']}" for row in rows), flush=True)
    write_between(PAGE, BEGIN, END, table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
