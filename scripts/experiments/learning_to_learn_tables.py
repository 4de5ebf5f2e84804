"""Write the tables of learning to learn in RESULTS.md from the rows of ``scripts/results/learning_to_learn.csv``."""

from __future__ import annotations

from collections import defaultdict

from scripts.experiments.learning_to_learn_tasks import LEARNERS, Task
from scripts.results_table import PAGE, markdown_table, marked, write_between

BEGIN = "<!-- learning to learn: written by scripts/experiments/learning_to_learn.py -->"
END = "<!-- end of learning to learn -->"

Rows = list[dict[str, str]]


def write_tables(rows: Rows) -> None:
    """Write the tables between their marks in RESULTS.md; print them if there are no marks."""
    text = tables(rows)
    if text and not write_between(PAGE, BEGIN, END, text):
        print(f"\n{text}")


def tables(rows: Rows) -> str:
    """Return a table for bandits and one for MDPs, if there are rows for them."""
    by_task: dict[Task, Rows] = defaultdict(list)
    for row in rows:
        task = Task("mdp", int(row["n"])) if row["task"] == "mdp" else Task("bandit", int(row["n"]), int(row["k"]))
        by_task[task].append(row)
    parts = []
    for kind, what in (("bandit", "pulls, arms"), ("mdp", "episodes")):
        tasks = sorted(
            (task for task in by_task if task.kind == kind), key=lambda task: (task.episodes, task.arms or 0)
        )
        if tasks:
            parts.append(_table(what, tasks, by_task))
    return "\n\n".join(parts)


def _table(what: str, tasks: list[Task], by_task: dict[Task, Rows]) -> str:
    oracles = list(tasks[0].oracles())
    better = " and ".join(tasks[0].references)
    header = [what, "agent", "its reward", f"minus the better of {better}", *LEARNERS, *oracles]
    lines: list[list[str]] = []
    for task in tasks:
        # A later row of an oracle stands for the earlier ones: all are of the same tasks.
        measured = {row["strategy"]: row for row in by_task[task] if row["strategy"] in oracles}
        cells = [_published(task, name) for name in LEARNERS]
        cells += [_oracle(task, name, measured) for name in oracles]
        agents: dict[str, Rows] = defaultdict(list)
        for row in by_task[task]:
            if row["strategy"] not in oracles:
                agents[row["strategy"]].append(row)
        lines += [[marked(task.title, by_task[task]), *_agent(name, runs), *cells] for name, runs in agents.items()]
        if not agents:
            lines.append([task.title, "", "", "", *cells])
    return markdown_table(header, lines)


def _published(task: Task, name: str) -> str:
    return f"({task.published[name]:.1f})" if name in task.published else ""


def _oracle(task: Task, name: str, measured: dict[str, dict[str, str]]) -> str:
    mean = f"{float(measured[name]['mean']):.1f}" if name in measured else ""
    return f"{mean} {_published(task, name)}".strip()


def _agent(name: str, runs: Rows) -> list[str]:
    """Return an agent's name, mean and paired difference; over several runs the mean, and the least and the largest.

    The runs played the same tasks, so their errors go together: the error of their mean difference is given as the mean
    of their errors, which it does not exceed.
    """
    means = [float(run["mean"]) for run in runs]
    count = len(runs)
    reward = f"{sum(means) / count:.2f} ± {float(runs[0]['standard_error']):.2f}"
    if count > 1:
        reward = f"{sum(means) / count:.2f} [{min(means):.2f}, {max(means):.2f}], {count} runs"
    difference = sum(float(run["difference"]) for run in runs) / count
    error = sum(float(run["difference_error"]) for run in runs) / count
    return [name, reward, f"{difference:+.2f} ± {error:.2f}"]
