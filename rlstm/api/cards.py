"""The model card of a run: its ``README.md``, for people and for model hubs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from rlstm.api.finished_runs import evaluate_run, open_run
from rlstm.api.references import run_references
from rlstm.api.stored_runs import changed_settings, read_config
from rlstm.core.files import write_atomically
from rlstm.core.number_text import number
from rlstm.policies.policy import RecurrentPolicy
from rlstm.training.config import ConfigError
from rlstm.training.histories import read_progress
from rlstm.training.progress import sparkline
from rlstm.training.run_directory import RunDirectory

_METRICS = ("eval/mean_reward", "rollout/ep_rew_mean")
_CURVE_WIDTH = 60


def write_card(
    run_dir: str | os.PathLike[str],
    *,
    episodes: int = 100,
    seed: int = 0,
    licence: str | None = None,
    force: bool = False,
    trust: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Write the run's ``README.md``: what it is, how to load it, how good it is with and without its memory.

    Args:
        run_dir: The run's folder.
        episodes: Of each evaluation.
        seed: Decides them.
        licence: Identifier of the weights' licence, as hubs take it ("mit", "apache-2.0"); none is named by default.
        force: Write over a ``README.md`` that is there.
        trust: Import the modules that the run names, and take its env from the entry points that it names.

    Returns:
        The file, and the facts in it by name.

    Raises:
        ConfigError: If there is a ``README.md`` that this function has not written.
        CheckpointError, RunDirectoryError: If the checkpoint or the folder is missing or damaged.
    """
    if licence is not None and not re.fullmatch(r"[a-z0-9.+-]+", licence):
        raise ConfigError(f"licence is '{licence}'; it must be an identifier as hubs know them, 'mit' or 'apache-2.0'.")
    directory = RunDirectory.open(run_dir)
    path = directory.path / "README.md"
    if path.exists() and not force and _MARK not in path.read_text(encoding="utf-8"):
        raise ConfigError(f"{path} was written by somebody else. Give --force to write over it, or move it away.")
    run = open_run(run_dir, trust=trust)
    evaluations = [
        evaluate_run(run_dir, episodes=episodes, seed=seed, ablate_memory=ablated, trust=trust)
        for ablated in (False, True)
    ]
    whole, ablated = (one.summary() for one in evaluations)
    facts = {
        "env": run.config.env.env,
        "agent": run.config.agent,
        "cell": run.config.policy.cell,
        "step": run.step,
        "checkpoint": run.checkpoint,
        "actions": "likeliest" if run.takes_likeliest(None) else "sampled",
        "episodes": episodes,
        "mean_return": whole["mean_return"],
        "std_return": whole["std_return"],
        "success_rate": whole["success_rate"],
        "mean_return_without_memory": ablated["mean_return"],
        **run_references(run_dir, trust=trust),
    }
    write_atomically(path, _text(directory, facts, licence, run.policy).encode())
    return path, facts


_MARK = "<!-- written by rlstm card -->"


def _text(directory: RunDirectory, facts: dict[str, Any], licence: str | None, policy: RecurrentPolicy) -> str:
    return "\n".join(
        [
            *_front_matter(facts, licence),
            "",
            f"# {facts['agent']} with {facts['cell']} on {facts['env']}",
            _MARK,
            "",
            f"A policy {'without' if facts['cell'] == 'none' else 'with'} a memory, trained by `rlstm` for "
            f"{facts['step']:,} environment steps (checkpoint "
            f"{facts['checkpoint']}).",
            "",
            "```python",
            "import rlstm",
            "",
            f'agent = rlstm.load("{directory.path.resolve().name}")  # this folder; the env is not needed',
            "agent.reset()  # where its memory ends, see below",
            *_act(directory),
            "```",
            "",
            *_results(facts),
            "",
            *_curve(directory),
            *_spaces(directory, policy),
            *_settings(directory),
            *_versions(directory),
        ]
    )


def _act(directory: RunDirectory) -> list[str]:
    """Return the line that acts, with all that the agent was trained to see."""
    config = read_config(directory)
    seen = config.inputs.resolve(config.memory.lifetime)
    given = ["observation"]
    notes = []
    if seen.previous_reward:
        given.append("reward=reward")
        notes.append("reward: what the action before brought")
    if seen.episode_start:
        given.append("episode_start=begins")
        notes.append("begins: whether an episode begins here")
    wrappers = config.env.env_wrappers
    if wrappers:
        notes.append(f"observation: as the wrappers {' '.join(wrappers)} give it")
    return [f"action = agent.act({', '.join(given)})" + (f"  # {'; '.join(notes)}" if notes else "")]


def _front_matter(facts: dict[str, Any], licence: str | None) -> list[str]:
    """Return the front matter as model hubs read it; strings are JSON's, which is YAML too."""
    env = json.dumps(facts["env"])
    value = json.dumps(f"{facts['mean_return']:.2f} +/- {facts['std_return']:.2f}")
    return [
        "---",
        "library_name: rlstm",
        *([f"license: {json.dumps(licence)}"] if licence else []),
        f"tags: [{env}, deep-reinforcement-learning, reinforcement-learning, rlstm]",
        "model-index:",
        f"- name: {json.dumps(facts['agent'] + '-' + facts['cell'])}",
        "  results:",
        "  - task: {type: reinforcement-learning, name: reinforcement-learning}",
        f"    dataset: {{name: {env}, type: {env}}}",
        f"    metrics: [{{type: mean_reward, value: {value}, name: mean_reward, verified: false}}]",
        "---",
    ]


def _results(facts: dict[str, Any]) -> list[str]:
    rows = [
        ("with its memory", f"{facts['mean_return']:.4g} ± {facts['std_return']:.4g}"),
        ("its memory reset at every step", f"{facts['mean_return_without_memory']:.4g}"),
    ]
    if facts["memoryless_return"] is not None:
        rows.append(("best without memory", number(facts["memoryless_return"])))
    if facts["optimal_return"] is not None:
        rows.append(("best possible", number(facts["optimal_return"])))
    if facts["success_rate"] is not None:
        rows.append(("success rate", f"{facts['success_rate']:.1%}"))
    head = f"Mean return and standard deviation of {facts['episodes']} episodes, {facts['actions']} actions."
    return ["## Results", "", head, "", *_table(("", "return"), rows)]


def _curve(directory: RunDirectory) -> list[str]:
    """Return the learning curve as a line of text, nothing if there is no curve yet."""
    _, rows = read_progress(directory)
    for metric in _METRICS:
        values = [float(row[metric]) for row in rows if row.get(metric)]
        if len(values) > 1:
            drawn = sparkline(values, _CURVE_WIDTH)
            span = f"from {number(min(values))} to {number(max(values))}, over {int(rows[-1]['step']):,} steps"
            return ["## Learning", "", f"`{metric}`, {span}:", "", f"    {drawn}", ""]
    return []


def _spaces(directory: RunDirectory, policy: RecurrentPolicy) -> list[str]:
    config = read_config(directory)
    memory = config.memory
    ends = {"episode": "every episode", "trial": f"every trial of {memory.episodes_per_trial} episodes"}
    lasts = f"Reset it before {ends[memory.lifetime]}." if memory.lifetime in ends else "It is never reset."
    rows = [("observations", str(policy.observation_space)), ("actions", str(policy.action_space)), ("memory", lasts)]
    return ["## What it reads and does", "", *_table(("", ""), rows), ""]


def _settings(directory: RunDirectory) -> list[str]:
    changed = changed_settings(read_config(directory))
    rows = [(f"`{name}`", f"`{value}`") for name, value in changed.items() if name not in ("agent", "run_dir")]
    command = directory.command_path.read_text(encoding="utf-8").strip() if directory.command_path.exists() else ""
    shown = ["", "```console", command, "```"] if command.startswith("rlstm") else []
    return ["## Settings that differ from the defaults", "", *_table(("setting", "value"), rows), *shown, ""]


def _versions(directory: RunDirectory) -> list[str]:
    found = json.loads(directory.versions_path.read_text(encoding="utf-8"))
    known = {name: value for name, value in found.items() if isinstance(value, str)}
    return ["## Versions", "", ", ".join(f"{name} {value}" for name, value in known.items()), ""]


def _table(header: tuple[str, str], rows: list[tuple[str, str]]) -> list[str]:
    lines = [f"| {header[0]} | {header[1]} |", "|---|---|"]
    return [*lines, *(f"| {left} | {right.replace('|', chr(92) + '|')} |" for left, right in rows)]
