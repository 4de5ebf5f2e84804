"""Inspect an agent: what its memory holds, what its actions depend on, what it knows and how long it lasts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rlstm.api.finished_runs import FinishedRun, open_run
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.files import write_atomically
from rlstm.core.process import prepare_process
from rlstm.core.seeding import integer_seeds
from rlstm.evaluation.evaluate import evaluation_envs
from rlstm.inspection import dependence
from rlstm.inspection.memory_length import MemoryLength, memory_length
from rlstm.inspection.page import describe_episode, encode_frames, flat_observation, write_page
from rlstm.inspection.playback import Episode, Playback, make_env, render_modes
from rlstm.inspection.probe import FEWEST, Probe, probe
from rlstm.inspection.trace import Trace, time_scales, trace
from rlstm.training.config import ConfigError

Report = Callable[[str], None]

_PROBED_STEPS = 20_000  # Of all episodes that are probed together.
_STRONGEST = 5  # Pairs of an action and an observation that are named.


def inspect_run(
    run_dir: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    checkpoint: Any = None,
    episodes: int = 5,
    probe_episodes: int = 200,
    window_episodes: int = 32,
    probes: Sequence[str] = (),
    seed: int = 0,
    deterministic: bool | None = None,
    max_steps: int = 500,
    report: Report = lambda text: None,
    trust: bool = False,
) -> dict[str, Any]:
    """Inspect what a run has learnt; return the facts, and write the page if a file is named.

    Args:
        run_dir: The run's folder.
        out: The page, an HTML file that needs nothing else.
        checkpoint: latest, best, or a step; by default the best where there is one.
        episodes: That the page shows; what actions depend on is their mean.
        probe_episodes: That linear probes are fitted to; 0 for none.
        window_episodes: Of each evaluation with a memory cut short; 0 for none.
        probes: Keys of numbers in the env's infos to look for in the memory, beside what our own envs hide.
        seed: Decides the episodes.
        deterministic: Take the likeliest action instead of sampling; by default as the run's own evaluations do.
        max_steps: Steps after which an episode is cut.
        report: Is told what is done.
        trust: Import the modules that the run names, and take its env from the entry points that it names.

    Returns:
        By name, JSON's types alone: ``returns``, ``time_scales``, ``dependence``, ``probes``, ``memory_length``.

    Raises:
        ConfigError: If a number is out of range, or an info holds no such key.
        EnvironmentFailure: If the env breaks.
    """
    numbers = (("episodes", episodes, 1), ("max_steps", max_steps, 2), ("seed", seed, 0))
    for name, value, least in (
        *numbers,
        ("probe_episodes", probe_episodes, 0),
        ("window_episodes", window_episodes, 0),
    ):
        if value < least:
            raise ConfigError(f"{name} is {value}; it must be at least {least}.")
    if 0 < probe_episodes < FEWEST:
        raise ConfigError(f"probe_episodes is {probe_episodes}; a probe needs {FEWEST}, or 0 for none.")
    if out is not None and (Path(out).is_dir() or Path(out).suffix.lower() not in (".html", ".htm")):
        raise ConfigError(f"The page is to be {out}; name a file that ends with .html.")
    if out is not None and not Path(out).resolve().parent.is_dir():
        raise ConfigError(f"The page is to be {out}, but there is no folder {Path(out).parent}. Make it first.")
    prepare_process()
    run = open_run(run_dir, checkpoint, trust=trust)
    likeliest = run.takes_likeliest(deterministic)
    report("episodes")
    played = _play(run, max(episodes, probe_episodes), episodes, seed, likeliest, probes, max_steps)
    shown = played[:episodes]
    traces = [trace(run.policy, moments, state) for moments, state in _with_states(run, shown)]
    report("what actions depend on")
    gradients = [dependence.gradients(run.policy, one) for one in traces]
    effects = [dependence.influence(dependence.reset_effects(run.policy, one)) for one in traces]
    report("what the memory knows")
    found = _probes(run, played[:probe_episodes], probes) if probe_episodes else []
    length = _length(run, window_episodes, seed, likeliest, max_steps, report) if window_episodes else None
    facts = {
        "run": str(run.directory.path),
        "checkpoint": run.checkpoint,
        "step": run.step,
        "env": run.config.env.env,
        "cell": run.config.policy.cell,
        "actions": "likeliest" if likeliest else "sampled",
        "seed": seed,
        "returns": [episode.total for episode in shown],
        "lengths": [len(episode.moments) for episode in shown],
        "time_scales": _time_scales(traces),
        "dependence": {"unit": dependence.unit(run.policy), **_dependence(gradients, effects)},
        "probes": [_probe_facts(one) for one in found],
        "memory_length": _length_facts(length),
    }
    if out is not None:
        report("the page")
        parts = zip(shown, traces, gradients, effects, encode_frames(shown), strict=True)
        described = [describe_episode(*part) for part in parts]
        write_atomically(Path(out), write_page({**facts, **_words(run, facts, length)}, described))
    return facts


def _play(
    run: FinishedRun, count: int, drawn: int, seed: int, likeliest: bool, probes: Sequence[str], max_steps: int
) -> list[Episode]:
    """Play episodes, of which the first ``drawn`` have frames where the env can draw."""
    modes = render_modes(run.spec, run.config.env)
    mode = next((one for one in ("rgb_array", "ansi") if one in modes), None)
    options: dict[str, Any] = {"render_mode": mode, "probes": probes}
    with closing(make_env(run.spec, run.config.env, run.config.memory, **options)) as env:
        playback = Playback(run.policy, env, seed=seed, deterministic=likeliest, max_steps=max_steps)
        played: list[Episode] = []
        while len(played) < count and sum(len(one.moments) for one in played) < _PROBED_STEPS:
            playback.draws = len(played) < drawn
            played.append(playback.play())
    for place, key in enumerate(probes):
        if all(np.isnan(moment.probes[place]) for episode in played for moment in episode.moments):
            raise ConfigError(f"No info of '{run.config.env.env}' has a number '{key}': name a key that it gives.")
    if len(played) < drawn:
        raise EnvironmentFailure(
            f"{drawn} episodes of up to {max_steps} steps are too long: show fewer with --episodes, or cut them with "
            "--max-steps."
        )
    return played


def _with_states(run: FinishedRun, episodes: Sequence[Episode]) -> list[tuple[Any, Any]]:
    """Return the moments of each episode with the state of the policy before them: memory may outlive episodes."""
    import torch

    from rlstm.inspection.trace import join

    state, pairs = run.policy.init_state(1), []
    for episode in episodes:
        pairs.append((episode.moments, state))
        if run.policy.memory.lifetime == "episode":
            continue
        inputs, _, is_first = join(episode.moments)
        with torch.no_grad():
            state = run.policy.replay_state(inputs, is_first, state)
    return pairs


def _probes(run: FinishedRun, episodes: Sequence[Episode], keys: Sequence[str]) -> list[Probe]:
    """Look for every number that the env hides in the memory."""
    memories = [np.stack([_held(moment.memory) for moment in episode.moments]) for episode in episodes]
    space = run.policy.observation_space
    seen = [np.stack([flat_observation(moment.observation, space) for moment in one.moments]) for one in episodes]
    hidden = [np.stack([moment.probes for moment in episode.moments]) for episode in episodes]
    count = hidden[0].shape[1]
    names = [*keys, *(f"hidden state {index}" for index in range(count - len(keys)))]
    found = (probe(name, memories, seen, [one[:, i] for one in hidden]) for i, name in enumerate(names))
    return [one for one in found if one is not None]


def _held(memory: dict[str, Any]) -> Any:
    """Return all that the actor's memory holds as one vector."""
    held = [leaf.reshape(-1) for name, leaf in memory.items() if not name.startswith("critic.")]
    return np.concatenate(held) if held else np.zeros(0)


def _length(
    run: FinishedRun, episodes: int, seed: int, likeliest: bool, max_steps: int, report: Report
) -> MemoryLength:
    """Measure how long the memory lasts, over as many envs as there are episodes, or trials."""
    seeds = integer_seeds(seed, "playback", episodes)
    config, memory = run.config.env, run.config.memory

    def make_envs() -> Any:
        return closing(evaluation_envs(run.spec, config, memory, episodes * (memory.episodes_per_trial or 1)))

    with make_envs() as envs:
        seeds = seeds[: envs.num_envs]
    say = lambda text: report(f"how long it lasts: {text}")  # noqa: E731
    return memory_length(run.policy, make_envs, seeds, deterministic=likeliest, max_steps=max_steps, report=say)


def _dependence(gradients: Sequence[Any], effects: Sequence[Any]) -> dict[str, Any]:
    """Return means over episodes: by lag, and the pairs of steps whose observation decides the action most."""
    longest = max(map(len, effects))
    sums, counts = np.zeros((longest, longest)), np.zeros((longest, longest))
    lags = np.full((2, len(effects), longest), np.nan)
    for index, (gradient, effect) in enumerate(zip(gradients, effects, strict=True)):
        size = len(effect)
        sums[:size, :size] += effect
        counts[:size, :size] += 1
        lags[0, index, :size], lags[1, index, :size] = dependence.by_lag(gradient), dependence.by_lag(effect)
    mean = sums / np.maximum(counts, 1)
    order = np.argsort(mean, axis=None)[::-1][:_STRONGEST]
    pairs = [(int(place // longest), int(place % longest)) for place in order]
    by_lag = np.nanmean(lags, axis=1)
    return {
        "gradient_by_lag": by_lag[0].tolist(),
        "influence_by_lag": by_lag[1].tolist(),
        "strongest": [{"action": t, "observation": s, "effect": float(mean[t, s])} for t, s in pairs],
    }


def _time_scales(traces: Sequence[Trace]) -> dict[str, Any]:
    """Return quantiles of the units' time scales, and their number in each octave."""
    by_gate = [time_scales(one.gates) for one in traces]
    if not by_gate[0]:
        return {"octaves": [], "median": None, "longest": None}
    scales = np.concatenate([np.median([one[name] for one in by_gate], axis=0) for name in by_gate[0]])
    octaves = np.floor(np.log2(np.maximum(scales, 1.0))).astype(int)
    counts = [{"from": int(2**octave), "units": int((octaves == octave).sum())} for octave in range(octaves.max() + 1)]
    return {"octaves": counts, "median": float(np.median(scales)), "longest": float(scales.max())}


def _probe_facts(one: Probe) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(one).items()}


def _length_facts(length: MemoryLength | None) -> dict[str, Any]:
    if length is None:
        return {"steps": None, "whole": None, "windows": [], "words": None}
    return {**asdict(length), "words": _length_words(length)}


def _length_words(length: MemoryLength) -> str:
    """Return how long a memory lasts in a sentence or two."""
    if length.steps:
        text = (
            f"With no more than the last {length.steps} steps in mind return is lost; with {length.steps + 1} none is."
        )
    else:
        text = "No return is lost without the memory."
    better = [one for one in length.windows if -one.difference > max(one.error, 1e-6 * abs(one.mean))]
    if better:
        best = max(better, key=lambda one: one.mean)
        text += f" With {best.window} in mind it does better: {best.mean:.4g}, with all {length.whole:.4g}."
    return text


def _words(run: FinishedRun, facts: dict[str, Any], length: MemoryLength | None) -> dict[str, Any]:
    """Return what the page says in words."""
    returns = facts["returns"]
    lasts = "not measured" if length is None else f"{length.steps} steps"
    summary = [
        ("run", f"{facts['run']}, checkpoint {facts['checkpoint']}, step {facts['step']:,}"),
        ("env", facts["env"]),
        ("memory", f"{facts['cell']}, {run.config.policy.hidden_size} units, kept for {run.policy.memory.lifetime}"),
        ("shown", f"{len(returns)} episodes, {facts['actions']} actions, seed {facts['seed']}"),
        ("return", f"{np.mean(returns):.4g} in the mean"),
        ("effective memory length", lasts),
    ]
    for pair in facts["dependence"]["strongest"][:1]:
        text = f"the action of step {pair['action']} on the observation of step {pair['observation']}"
        unit = facts["dependence"]["unit"]
        summary.append(("strongest dependence", f"{text}: {pair['effect']:.2f} {unit} in the mean"))
    note = (
        "A linear probe (ridge regression) reads what the env hides from what the memory holds at a step, "
        "cross-validated over episodes; beside it the same from the present observation alone."
    )
    if not facts["probes"]:
        note = "Nothing was probed: this env hides nothing that it tells. Name a number of its infos with --probe KEY."
    long = "Not measured." if length is None else _length_words(length)
    title = f"{run.config.agent} with {facts['cell']} on {facts['env']}"
    return {
        "title": title,
        "subtitle": "What it does, what it holds, what its actions depend on, what it knows, and how long it lasts.",
        "summary": summary,
        "probe_note": note,
        "length_note": long,
    }
