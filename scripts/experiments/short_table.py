"""Write README's short table: eight facts of RESULTS.md, a line each, from the rows of ``scripts/results``.

A fact whose rows are missing is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from scripts.experiments import popgym_table
from scripts.experiments.catalogue import EXPERIMENTS, SECTIONS
from scripts.experiments.double_pole_settings import PUBLISHED
from scripts.results_table import ROOT, markdown_table, read_rows, write_between

README = ROOT / "README.md"
RESULTS = ROOT / "scripts" / "results"
BEGIN = "<!-- short results: written by scripts/experiments/reproduce.py -->"
END = "<!-- end of short results -->"
HEAD = ("question", "task", "result", "how")
META, COUNT = "Does it learn to learn?", "Does it count and predict?"
HELD_OUT = {"seed": "1000000", "trials": "10000"}  # The bandits on which all strategies were measured.
BANDITS = ((10, 5), (100, 5), (100, 10), (10, 50), (100, 50))  # Pulls, arms.
LEAST_RUNS = 50  # On two poles, below which a mean says too little.

Rows = Sequence[dict[str, str]]
Fact = tuple[str, str, str, str]


def write_page() -> None:
    """Put the table between its marks in README."""
    lines = [fact() for fact in FACTS]
    write_between(README, BEGIN, END, markdown_table(HEAD, [line for line in lines if line]))


def link(question: str) -> str:
    """Return a question as a link to its section of RESULTS.md."""
    place = "".join(letter for letter in question.lower() if letter.isalnum() or letter in " -").replace(" ", "-")
    return f"[{question}](RESULTS.md#{place})"


def learnt(*names: str) -> list[dict[str, str]]:
    """Return the rows of some experiments."""
    return [row for row in read_rows(RESULTS / "learning.csv") if row["experiment"] in names]


def solved(rows: Rows) -> str:
    """Return how many rows count as solved, "4 of 5"."""
    return f"{sum(row['solved'] == 'True' for row in rows)} of {len(rows)}"


def long_corridors() -> Fact | None:
    """Return what became of the T-mazes of 100 and 1,000 steps."""
    short, long = learnt("tmaze-100"), learnt("tmaze-1000")
    if not (short and long):
        return None
    seconds = np.median([float(row["seconds_to_criterion"] or "inf") for row in short])
    result = f"{solved(short)} seeds, in {seconds:.0f} s of one thread; 1000 begun at 100: {solved(long)}"
    return link(SECTIONS["remember"]), "T-maze, corridors of 100 and 1000 (Bakker 2001)", result, "PPO, LSTM"


def passive_corridors() -> Fact | None:
    """Return what became of the passive T-mazes."""
    short, long = learnt("passive-250"), learnt("passive-1000")
    if not (short and long):
        return None
    result = f"{solved(short)} and {solved(long)} seeds"
    how = "PPO, LSTM, by shorter ones"
    return link(SECTIONS["remember"]), "Passive T-maze, 250 and 1000 (Ni et al. 2023)", result, how


def memory_mazes() -> Fact | None:
    """Return what became of MiniGrid's memory mazes."""
    sizes = {"S9": "minigrid-memory-s9", "S13": "minigrid-memory-s13"}
    own = {size: learnt(name) for size, name in sizes.items()}
    if not all(own.values()):
        return None
    result = "; ".join(
        f"{size} {solved(rows)} seeds at {EXPERIMENTS[sizes[size]].criterion:g}" for size, rows in own.items()
    )
    task = "MiniGrid's memory mazes, all actions, whole view"
    return link(SECTIONS["remember"]), task, result, "PPO, LSTM, NovelD, by smaller ones"


def popgym() -> Fact | None:
    """Return in how many cells POPGym's marks are reached."""
    experiments = {name: one for name, one in EXPERIMENTS.items() if one.group == "POPGym"}
    cells = popgym_table.cells_of(experiments, learnt(*experiments))
    if not cells:
        return None
    low, high = popgym_table.reached(cells.values())
    result = f"at or above another PPO-GRU of as many steps in {low}"
    result += f", the best of 13 models at 15 million steps in {high}"
    return link(SECTIONS["popgym"]), f"POPGym, {len(cells)} envs, 3 million steps", result, "PPO"


def hidden_velocities() -> Fact | None:
    """Return what became of the classic tasks of control without velocities."""
    tasks = {"CartPole": "cartpole-no-vel", "Pendulum": "pendulum-no-vel", "MountainCar": "mountain-car-no-vel"}
    own = {title: learnt(name) for title, name in tasks.items()}
    if not all(own.values()):
        return None
    result = "; ".join(
        f"{title} {solved(rows)} seeds at {EXPERIMENTS[tasks[title]].criterion:g}" for title, rows in own.items()
    )
    return link(SECTIONS["hidden"]), "Classic control without velocities", result, "PPO, LSTM"


def two_poles() -> Fact | None:
    """Return the strategy with the fewest evaluations on two poles, beside the best published."""
    by_strategy: dict[tuple[str, str, str], list[dict[str, str]]] = defaultdict(list)
    for row in read_rows(RESULTS / "double_pole.csv"):
        if row["fitness"] == "damping":
            by_strategy[row["strategy"], row["network"], row["settings"]].append(row)
    whole = [
        rows for rows in by_strategy.values() if len(rows) >= LEAST_RUNS and all(r["solved"] == "True" for r in rows)
    ]
    if not whole:
        return None
    means = [float(np.mean([int(row["evaluations"]) for row in rows])) for rows in whole]
    best = whole[int(np.argmin(means))]
    published = min(one.mean for one in PUBLISHED["damping"])
    result = f"{min(means):,.0f} evaluations in the mean, {solved(best)} runs; published from {published:,} on"
    how = best[0]["strategy"].upper()
    return link(SECTIONS["hidden"]), "Two poles without velocities, damping fitness", result, how


def bandits() -> Fact | None:
    """Return the rewards of the best agent that rewards trained, of each bandit, and of UCB1 on the same ones."""
    parts = []
    for pulls, arms in BANDITS:
        task = {"task": "bandit", "n": str(pulls), "k": str(arms), **HELD_OUT}
        rows = [row for row in read_rows(RESULTS / "learning_to_learn.csv") if task.items() <= row.items()]
        agents = [float(row["mean"]) for row in rows if row["training"].startswith("rlstm train ppo")]
        ucb1 = [float(row["mean"]) for row in rows if row["strategy"] == "ucb1"]
        if agents and ucb1:
            digits = 2 if pulls < 100 else 1
            parts.append(f"{pulls}, {arms}: {max(agents):.{digits}f} ({ucb1[-1]:.{digits}f})")
    task_title = "Bandits of so many pulls, arms; UCB1 on the same in brackets"
    return (link(META), task_title, "; ".join(parts), "PPO, LSTM") if parts else None


def counting() -> Fact | None:
    """Return the largest n of a^n b^n c^n after training on n up to 10."""
    task = {"language": "anbncn", "max_n": "10"}
    rows = [row for row in read_rows(RESULTS / "counting.csv") if task.items() <= row.items()]
    evolved, random = (
        [int(row["largest_n"]) for row in rows if row["strategy"] == strategy] for strategy in ("evolution", "random")
    )
    if not (evolved and random):
        return None
    result = f"right to n = {np.median(evolved):g} in the median of {len(evolved)} seeds"
    result += f"; random memories: {np.median(random):g}"
    return link(COUNT), "aⁿbⁿcⁿ after training on n up to 10", result, "Evolino"


FACTS: tuple[Callable[[], Fact | None], ...] = (
    *(long_corridors, passive_corridors, memory_mazes, popgym),
    *(hidden_velocities, two_poles, bandits, counting),
)
