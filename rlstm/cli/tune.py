"""``rlstm tune AGENT``: search for the settings with which an agent learns an env, and compare the best on fresh seeds.

The flags are those of ``rlstm train AGENT``, and those of the search. A setting whose flag is given is not searched.
"""

from __future__ import annotations

import dataclasses
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from rlstm.api.tuning.plan import Options, Plan, make_plan
from rlstm.api.tuning.space import base_values, read_given
from rlstm.cli.answers import Answer
from rlstm.cli.parsing import Json, named
from rlstm.cli.tables import WIDTH, facts, table
from rlstm.cli.train import CommandFlags, named_agent, read_experiment
from rlstm.core.number_text import number, percent
from rlstm.core.searched import Choices, Tried, word_of

if TYPE_CHECKING:
    from rlstm.api.tuning.finals import Finalist
    from rlstm.api.tuning.records import Record
    from rlstm.api.tuning.result import TuneResult


_MORE = 1.1  # Of the steps of a trial: so many more are told.


@dataclass(frozen=True, kw_only=True)
class TuneFlags(CommandFlags, Options):
    """The search."""

    search: Annotated[tuple[str, ...], named("[NAME=RANGE ...]")] = ()
    """What to try of settings, over what is tried by default: learning_rate=1e-4..1e-2 cell=lstm,gru."""

    search_only: Json = False
    """Search what --search names, and nothing else; a NAME alone stands for its default range."""

    show_space: Json = False
    """Print what would be searched, and do nothing."""

    study_dir: Annotated[str | None, named("DIR")] = None
    """Folder of the study; one that holds it is joined, or gone on with. Default: a new one under runs/."""

    jobs: int = 1
    """Processes that play trials here, with one thread each unless --num-threads says otherwise."""


def run(words: list[str]) -> Answer:
    """Tune the agent named by the first word.

    Raises:
        UsageError: If the command line can't be understood.
        UnknownNameError: If the agent, the preset, the env or a setting is unknown.
        ConfigError: If settings make no sense, or can't be searched.
    """
    agent = named_agent("tune", words, "What is searched: rlstm tune AGENT --show-space.")
    plan, flags = read_plan(agent, words[1:])
    if flags.show_space:
        return _space_answer(plan)
    from rlstm.api.tuning.tune import tune_plan

    return _answer(plan, tune_plan(plan, flags.study_dir, jobs=flags.jobs, ui=flags.ui))


def read_plan(agent: str, words: Sequence[str]) -> tuple[Plan, TuneFlags]:
    """Return the search that a command line describes, and its flags that are no settings."""
    config, flags, fixed = read_experiment("tune", agent, words, TuneFlags())
    start = " and ".join(
        [*([f"preset {flags.preset}"] if flags.preset else []), *([flags.config] if flags.config else [])]
    )
    given = read_given(flags.search)
    options = Options(**{one.name: getattr(flags, one.name) for one in dataclasses.fields(Options)})
    plan = make_plan(config, start or "default settings", fixed, given, options, only=flags.search_only)
    return plan, flags


def _space_answer(plan: Plan) -> Answer:
    base = base_values(plan.base)
    rows = [[name, _tried(tried), word_of(base[name])] for name, tried in plan.space.items()]
    fixed = sorted(plan.fixed - {"env"})
    lines = [table(("setting", "searched", "at the start"), rows, wrapped=("searched",))]
    lines += ["", f"Fixed by flags: {', '.join(fixed)}."] if fixed else []
    values = {
        "agent": plan.base.agent,
        "space": {name: str(tried) for name, tried in plan.space.items()},
        "start": plan.values(),
        "fixed": fixed,
    }
    return Answer("\n".join(lines), values)


def _tried(tried: Tried) -> str:
    if isinstance(tried, Choices):
        return ", ".join(map(word_of, tried.values))
    return f"{word_of(tried.low)} to {word_of(tried.high)}{', logarithmic' if tried.log else ''}"


def _answer(plan: Plan, result: TuneResult) -> Answer:
    from rlstm.api.tuning.result import as_json

    ranked = sorted(result.trials, key=_rank)
    trials = table(("trial", "value", "settings"), [_trial(plan, one) for one in ranked], wrapped=("settings",))
    finals = table(
        ("finalist", "mean", "std. error", "each seed", "steps", "seconds", "in the search", "beats the start"),
        [_finalist(one, result) for one in result.finalists],
        wrapped=("each seed",),
    )
    shares = {name: percent(share) for name, share in result.importances.items()}
    what = facts(shares) if shares else "Too few trials were played to their end to tell."
    agent, preset = plan.base.agent, shlex.quote(result.preset_file)
    lines = {
        "study": result.study_dir,
        "settings": result.preset_file,
        "train": f"rlstm train {agent} --config {preset}",
    }
    parts = [
        f"Trials of {plan.steps:,} steps, the best first:\n\n{trials}",
        f"Share of each setting in what set the best trials apart (PED-ANOVA):\n\n{what}",
        f"Final round, on {result.winner.on()}:\n\n{finals}",
        textwrap.fill(result.verdict(), WIDTH),
        facts(lines),
    ]
    return Answer("\n\n".join(parts), as_json(result))


def _rank(one: Record) -> tuple[int, float, int]:
    """Return what trials are sorted by: played to the end, pruned, failed."""
    place = {"done": 0, "pruned": 1}.get(one.outcome, 2)
    return place, -one.value if one.value is not None else 0.0, one.number


def _trial(plan: Plan, one: Record) -> list[str]:
    start = plan.values()
    differing = {name: value for name, value in one.values.items() if word_of(value) != word_of(start[name])}
    settings = "the start" if one.is_start else _words(differing)
    if one.outcome == "failed":
        reason = " ".join((one.reason or "").split())
        return [str(one.number), "failed", f"{settings}: {reason}"]
    at = f" at {one.steps:,}, pruned" if one.outcome == "pruned" else ""
    if one.outcome == "done" and one.steps > _MORE * plan.steps:
        at = f" at {one.steps:,}"
    return [str(one.number), f"{number(one.value)}{at}", settings]


def _words(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else word_of(value)


def _finalist(one: Finalist, result: TuneResult) -> list[str]:
    from rlstm.api.tuning.finals import compare

    name = result.start if one.trial is None else f"trial {one.trial}"
    each = ", ".join(number(value, "failed") for value in one.returns)
    beats = ""
    if one.trial is not None:
        compared = compare(one, result.beginning)
        beats = "yes" if compared and compared.difference > 0 else "no" if compared else "unknown"
        if compared and compared.difference > 0 and not compared.is_clear:
            beats = "within the noise"
    spent = [number(max(one.steps)), number(sum(one.seconds) / len(one.seconds))]
    found = number(one.search_value, "")
    return [name, number(one.mean, "failed"), number(one.error, ""), each, *spent, found, beats]
