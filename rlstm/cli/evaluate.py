"""``rlstm evaluate RUN_DIR``: how good a trained agent is, next to the best with and without memory."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rlstm.cli.answers import Answer
from rlstm.cli.parsing import Json, PlayFlags, how, parse
from rlstm.cli.tables import facts
from rlstm.core.number_text import number, percent

if TYPE_CHECKING:
    from rlstm.evaluation.evaluate import EvaluationResult


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags(PlayFlags):
    """Play complete episodes with a trained agent, on seeds that training never uses."""

    episodes: int = 100
    """Complete episodes to play; rounded up to whole trials."""

    ablate_memory: Json = False
    """Reset the state before every step: what the agent reaches without its memory."""

    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the env to change; values are read as JSON."""


def run(words: list[str]) -> Answer:
    """Evaluate the run."""
    flags = parse(EvaluateFlags, words, "evaluate")
    choices = flags.choices()
    from rlstm.api.finished_runs import evaluate_run

    result = evaluate_run(
        flags.run_dir,
        episodes=flags.episodes,
        ablate_memory=flags.ablate_memory,
        env_kwargs=flags.env_kwargs,
        **choices,
    )
    values = {
        **flags.chosen(),
        "ablate_memory": flags.ablate_memory,
        "env_kwargs": flags.env_kwargs,
        **result.summary(),
        **_references(flags.run_dir, flags.env_kwargs),
    }
    return Answer(_text(result, values, flags), values)


def _references(run_dir: str, env_kwargs: dict[str, Any]) -> dict[str, float | None]:
    """Return what the env, as it was played, says of the best returns with and without memory."""
    import gymnasium as gym

    from rlstm.api.env_checks.play import REFERENCES, references
    from rlstm.api.experiments import read_config, read_spec
    from rlstm.training.run_directory import RunDirectory

    directory = RunDirectory.open(run_dir)
    config = read_config(directory)
    # The references are those of the whole task, drawn anew in each episode.
    if config.env.env_wrappers or (config.memory.episodes_per_trial or 1) > 1:
        return dict.fromkeys(REFERENCES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The env was made before, with its warnings.
        kwargs = {**config.env.env_kwargs, **env_kwargs}
        env = gym.make(read_spec(directory, config), disable_env_checker=True, **kwargs)
    with contextlib.closing(env):
        return references(env.unwrapped)


def _text(result: EvaluationResult, values: dict[str, Any], flags: EvaluateFlags) -> str:
    changed = ", ".join(f"{name}={value}" for name, value in flags.env_kwargs.items())
    ablated = "; memory reset before every step, and with it the previous action and reward, where they are seen"
    lines = {
        "run": flags.run_dir,
        "played": f"{number(values['episodes'])} episodes; {how(values)}{f'; {changed}' if changed else ''}"
        f"{ablated if flags.ablate_memory else ''}",
        "return": f"{number(values['mean_return'])} ± {number(values['std_return'])} (standard deviation)",
        "length": f"{number(values['mean_length'])} ± {number(float(result.lengths.std()))} steps",
        "success": percent(values["success_rate"], unknown="unknown: the env reports no info['is_success']"),
    }
    lines |= {name: number(value) for name, value in values.items() if name.startswith("info/")}
    if values["cut"]:
        lines["cut"] = f"{values['cut']} episodes, which had not ended and count as they stand"
    if "mean_trial_return" in values:
        lines["trial return"] = number(values["mean_trial_return"])
    lines["best without memory"] = number(values["memoryless_return"])
    lines["best possible"] = number(values["optimal_return"])
    return facts(lines)
