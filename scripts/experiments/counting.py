"""Counting languages: the longest strings a network handles that has learnt a^n b^n c^n or a^n b^n from shorter ones.

    python -m scripts.experiments.counting                              # what a run is
    python -m scripts.experiments.counting --max-n 10 40 --seeds 0 1    # evolution and the control, these seeds
    python -m scripts.experiments.counting --max-n 10 --strategies filter --language anbn
    python -m scripts.experiments.counting --tables                     # the table from the rows, nothing is trained

A run is the preset ``anbncn``, strings of n up to 10, from whose champion a second run goes on with strings of n up to
``--max-n``. No string is longer than that, neither those from which readouts are solved nor those that decide between
parameter vectors or between champions. What is measured of the last champion is the largest n handled: it gets every
set of legal next symbols right in the strings of this n and of all smaller ones. It is 0 if already n = 1 fails, and
no n above 1000 is tried.

``longer`` gives the second run five times the generations. ``random`` is the control without evolution: one generation
of as many parameter vectors as the two runs evaluate, of the deviation with which they begin, with strings of n up to
``--max-n``. ``joint`` evolves the readout too, by the return of episodes. ``gradient`` and ``filter`` are one run each
of ``rlstm train teacher`` on the same strings: backpropagation through time with Adam, and the preset ``anbncn-dekf``,
a decoupled extended Kalman filter. Settings are the same for both languages; those of the evolution were chosen on
a^n b^n c^n and other seeds, from 1000 on. Rows are in ``scripts/results/counting.csv``; one that is there is not run
again.

Sources: F. A. Gers, J. Schmidhuber, *LSTM Recurrent Networks Learn Simple Context-Free and Context-Sensitive
Languages*, IEEE Transactions on Neural Networks 12(6), 2001, for the task; Schmidhuber, Wierstra, Gagliolo, Gomez,
*Training recurrent networks by Evolino*, Neural Computation 19(3), 2007; Pérez-Ortiz, Gers, Eck, Schmidhuber, *Kalman
filters improve LSTM network performance in problems unsolvable by traditional recurrent nets*, Neural Networks 16(2),
2003, for the filter.
"""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rlstm.api.finished_runs import open_run
from scripts.experiments.training_run import MACHINE_COLUMNS, machine, make_parser, read_progress, train
from scripts.results_table import PAGE, ROOT, append_row, markdown_table, marked, read_rows, write_between

if TYPE_CHECKING:
    from rlstm.policies.policy import RecurrentPolicy

RESULTS = ROOT / "scripts" / "results" / "counting.csv"
WAYS_PAGE = ROOT / "docs" / "four-ways.md"
WAYS_BEGIN, WAYS_END = "<!-- four ways: written by scripts/experiments/counting.py -->", "<!-- end of four ways -->"
WAYS = {
    "gradient": "differentiate",
    "joint": "evolve",
    "filter": "filter",
    "evolution": "solve",
    "random": "solve, random memories",
}
BEGIN, END = "<!-- counting: written by scripts/experiments/counting.py -->", "<!-- end of counting -->"
MOST = 1000  # No larger n is tried.
MOST_ENVS = 128  # Strings that are read together.
LANGUAGES = {"anbncn": ("rlstm/AnBnCn-v0", "aⁿbⁿcⁿ", 3), "anbn": ("rlstm/AnBn-v0", "aⁿbⁿ", 2)}  # Env, title, letters.
COLUMNS = (
    "language",
    "max_n",
    "strategy",
    "seed",
    "largest_n",
    "error",
    "generations",
    "genomes",
    "sequences",
    "steps",
    "seconds",
    "command",
    *MACHINE_COLUMNS,
)
TITLES = {
    "evolution": "SNES, readout solved",
    "longer": "SNES, readout solved, five times the second run",
    "joint": "SNES, readout evolved",
    "random": "random memories, readout solved",
    "gradient": "gradient, Adam",
    "filter": "Kalman filter",
}
SINGLE = {  # Runs that nothing goes on from.
    "joint": "evolino --preset anbncn --readout joint --fitness return --teacher-sequences 4 --total-steps 4000000",
    "gradient": "teacher --env rlstm/AnBnCn-v0 --cell peephole_lstm --hidden-size 4 --dtype float64 --eval-every 0 "
    "--learning-rate 0.01 --anneal-lr --total-steps 2000000",
    "filter": "teacher --preset anbncn-dekf",
}
POPULATION, GENOMES = 50, 10_000
LONGER = 5
STEPS_PER_N = 35_000  # Of the second run for each n: some 50 generations, whatever the longest string.


def words(language: str, max_n: int, strategy: str, seed: int, *, second: bool, num_threads: int = 1) -> list[str]:
    """Return the words of a run but for its folders."""
    last = f"--seed {seed} --eval-episodes 1 --num-threads {num_threads}"
    if language != "anbncn":  # That of the presets.
        last += f" --env {LANGUAGES[language][0]}"
    if strategy in SINGLE:
        return shlex.split(f"train {SINGLE[strategy]} --env-kwargs max_n={max_n} {last}")
    common = f"train evolino --preset anbncn {last}"
    if strategy == "random":
        return shlex.split(f"{common} --env-kwargs max_n={max_n} --population {GENOMES} --total-steps 1")
    if second:
        steps = STEPS_PER_N * max_n * (LONGER if strategy == "longer" else 1)
        return shlex.split(f"{common} --env-kwargs max_n={max_n} --sigma 0.2 --total-steps {steps}")
    return shlex.split(common)


def largest_n(accepts: Callable[[Sequence[int]], npt.NDArray[np.bool_]], most: int = MOST) -> int:
    """Return the largest N up to ``most`` such that every n from 1 to N is accepted.

    Args:
        accepts: From some n to whether the string of each is accepted.
        most: Where to stop.
    """
    first, count = 1, MOST_ENVS // 4
    while first <= most:
        some = range(first, min(first + count, most + 1))
        failed = np.flatnonzero(~accepts(some))
        if len(failed):
            return some[int(failed[0])] - 1
        first, count = some[-1] + 1, min(2 * count, MOST_ENVS)
    return most


def accepted(policy: RecurrentPolicy, language: str, some: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return whether a policy gets every set right in the string of each n, ``(N,)``.

    The env draws n; here each env is given its own after the reset, when only S has been seen, which tells nothing.
    """
    import torch

    from rlstm.api.envs import resolve_env
    from rlstm.evaluation.evaluate import Player
    from rlstm.vector.config import EnvConfig
    from rlstm.vector.make import make

    env, _, letters = LANGUAGES[language]
    config = EnvConfig(env=env, num_envs=len(some), env_kwargs={"max_n": max(some)})
    with contextlib.closing(make(resolve_env(config), config, policy.memory, num_envs=len(some))) as envs:
        player = Player(policy, envs, list(range(len(some))))
        envs.envs.unwrapped.task.repeats[:] = some  # type: ignore[attr-defined]
        snapshot, state = policy.acting_snapshot(), policy.init_state(len(some))

        def act(inputs: Any, is_first: torch.Tensor) -> torch.Tensor:
            nonlocal state
            actions, state = snapshot.act(inputs, state, is_first, deterministic=True)
            return actions

        with torch.inference_mode():
            while (player.played < 1).any():
                player.step(act)
    result = player.result(np.ones(len(some), dtype=np.int64))
    if result.lengths.tolist() != [letters * n + 1 for n in some]:
        raise RuntimeError(f"Strings of n {list(some)} had the lengths {result.lengths.tolist()}.")
    return np.asarray(result.successes == 1.0)


def run_one(language: str, max_n: int, strategy: str, seed: int, folder: Path, num_threads: int = 1) -> dict[str, Any]:
    """Train one seed and return its row; the first run of a seed stays in ``folder`` for other ``max_n``."""
    lasts = []
    commands = []
    init: list[str] = []
    if strategy != "random" and strategy not in SINGLE:
        first = folder / f"first-{seed}"
        commands.append(words(language, max_n, strategy, seed, second=False, num_threads=num_threads))
        lasts.append((read_progress(first) if first.exists() else train(commands[0], first))[-1])
        init = ["--init-from", str(first)]
    run_dir = folder / f"{strategy}-{max_n}-{seed}"
    commands.append(words(language, max_n, strategy, seed, second=True, num_threads=num_threads))
    lasts.append(train([*commands[-1], *init], run_dir)[-1])
    policy = open_run(run_dir).policy
    taught = "teacher/sequences" in lasts[-1]
    generations = 0 if taught else sum(int(float(last["evolino/generations"])) for last in lasts)
    error = float(lasts[-1]["train/loss"]) if taught else -float(lasts[-1]["evolino/champion"])
    shown = [f"rlstm {shlex.join(command)}" for command in commands]
    if init:
        shown = [f"{shown[0]} --run-dir FIRST", f"{shown[1]} --init-from FIRST"]
    return {
        "language": language,
        "max_n": max_n,
        "strategy": strategy,
        "seed": seed,
        "largest_n": largest_n(lambda some: accepted(policy, language, some)),
        "error": "" if strategy == "joint" else f"{error:.4g}",  # Its fitness is a return.
        "generations": generations or "",
        "genomes": generations * (GENOMES if strategy == "random" else POPULATION) or "",
        "sequences": int(float(lasts[-1]["teacher/sequences"])) if taught else "",
        "steps": sum(int(float(last["step"])) for last in lasts),
        "seconds": round(sum(float(last["time/time_elapsed"]) for last in lasts), 1),
        "command": " && ".join(shown),
        **machine(num_threads),
    }


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the Markdown table, or nothing if there are no rows."""
    lines = []
    for language, max_n in sorted({(row["language"], int(row["max_n"])) for row in rows}):
        for strategy, title in TITLES.items():
            own = _rows(rows, language, max_n, strategy)
            if not own:
                continue
            values = np.array([int(row["largest_n"]) for row in own])
            learnt = "sequences" if own[0].get("sequences") else "genomes"
            counts = [int(row[learnt]) for row in own]
            cells = [
                f"{LANGUAGES[language][1]}, 1 to {max_n}",
                marked(title, own),
                f"{np.median(values):g}",
                *(f"{value}{' or more' if value >= MOST else ''}" for value in (values.max(), values.min())),
                f"{(values > max_n).sum()} of {len(own)}",
                f"{np.median(counts):,.0f} {learnt}",
                f"{np.median([float(row['seconds']) for row in own]):.0f} s",
            ]
            lines.append(cells)
    head = [
        "language, n trained on",
        "strategy",
        "largest n, median",
        "best seed",
        "worst seed",
        "beyond training",
        "from",
        "wall",
    ]
    return markdown_table(head, lines)


def ways_table(rows: Sequence[dict[str, str]], max_n: int = 10) -> str:
    """Return the Markdown table of what is trained on the same strings in different ways, or nothing."""
    lines = []
    for strategy, way in WAYS.items():
        own = _rows(rows, "anbncn", max_n, strategy)
        if own:
            values = np.array([int(row["largest_n"]) for row in own])
            millions = np.median([int(row["steps"]) for row in own]) / 1e6
            seconds = np.median([float(row["seconds"]) for row in own])
            best = f"{values.max()}{' or more' if values.max() >= MOST else ''}"
            lines.append(
                [
                    marked(way, own),
                    f"{np.median(values):g}",
                    best,
                    f"{values.min()}",
                    f"{len(own)}",
                    f"{millions:.2f} million",
                    f"{seconds:.0f} s",
                ]
            )
    return markdown_table(["", "largest n, median", "best", "worst", "seeds", "symbols read", "wall"], lines)


def _rows(rows: Sequence[dict[str, str]], language: str, max_n: int, strategy: str) -> list[dict[str, str]]:
    """Return the seeds of a line."""
    wanted = (language, str(max_n), strategy)
    return [row for row in rows if (row["language"], row["max_n"], row["strategy"]) == wanted]


def left(
    rows: Sequence[dict[str, str]],
    language: str,
    max_ns: Sequence[int],
    strategies: Sequence[str],
    seeds: Sequence[int],
) -> list[tuple[int, str, int]]:
    """Return what is to be run, seed by seed."""
    there = {(row["language"], int(row["max_n"]), row["strategy"], int(row["seed"])) for row in rows}
    wanted = [(max_n, strategy, seed) for seed in seeds for strategy in strategies for max_n in max_ns]
    return [one for one in wanted if (language, *one) not in there]


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, range(20))
    parser.add_argument(
        "--max-n", type=int, nargs="+", default=[], metavar="N", help="longest strings; none runs nothing"
    )
    parser.add_argument("--language", choices=LANGUAGES, default="anbncn")
    parser.add_argument("--strategies", nargs="+", choices=TITLES, default=["evolution", "longer", "random"])
    arguments = parser.parse_args()
    if not arguments.max_n and not arguments.tables:
        for second in (False, True):
            print(f"rlstm {shlex.join(words(arguments.language, 40, 'evolution', 0, second=second))}")
        return
    language, known = arguments.language, read_rows(RESULTS)
    with tempfile.TemporaryDirectory() as folder:
        for max_n, strategy, seed in left(known, language, arguments.max_n, arguments.strategies, arguments.seeds):
            row = run_one(language, max_n, strategy, seed, Path(folder), arguments.num_threads)
            append_row(RESULTS, COLUMNS, row)
            print(f"n <= {max_n} {strategy} seed {seed}: {row['largest_n']}, {row['seconds']} s", flush=True)
    write_between(PAGE, BEGIN, END, table(read_rows(RESULTS)))
    write_between(WAYS_PAGE, WAYS_BEGIN, WAYS_END, ways_table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
