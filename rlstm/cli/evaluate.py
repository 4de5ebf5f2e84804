"""``rlstm evaluate RUN_DIR``: how good a trained agent is, next to the best with and without memory."""

from __future__ import annotations

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
    from rlstm.api.references import run_references

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
        **run_references(flags.run_dir, flags.env_kwargs, trust=flags.trust),
    }
    return Answer(_text(result, values, flags), values)


def _text(result: EvaluationResult, values: dict[str, Any], flags: EvaluateFlags) -> str:
    changed = ", ".join(f"{name}={value}" for name, value in flags.env_kwargs.items())
    ablated = "; memory reset before every step, and with it the previous action and reward, where they are seen"
    lines = {
        "run": flags.run_dir,
        "played": f"{number(values['episodes'])} episodes; {how(values)}{f'; {changed}' if changed else ''}"
        f"{ablated if flags.ablate_memory else ''}",
        "return": f"{number(values['mean_return'])} ± {number(values['std_return'])} (standard deviation), "
        f"standard error {number(values['std_return'] / values['episodes'] ** 0.5)}",
        "length": f"{number(values['mean_length'])} ± {number(float(result.lengths.std()))} steps",
        "success": percent(values["success_rate"], unknown="unknown: the env reports no info['is_success']"),
    }
    if "label_error_rate" in values:
        lines["labels"] = f"{percent(values['label_error_rate'])} of them wrong, missing or too many"
    lines |= {name: number(value) for name, value in values.items() if name.startswith("info/")}
    if values["cut"]:
        lines["cut"] = f"{values['cut']} episodes, which had not ended and count as they stand"
    if "mean_trial_return" in values:
        lines["trial return"] = number(values["mean_trial_return"])
    if values["memoryless_return"] is not None or values["optimal_return"] is not None:
        lines["best without memory"] = number(values["memoryless_return"])
        lines["best possible"] = number(values["optimal_return"])
    return facts(lines)
