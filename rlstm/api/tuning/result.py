"""What comes of a search."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstm.api.tuning.finals import Comparison, Finalist, compare, finalists
from rlstm.api.tuning.plan import Plan
from rlstm.api.tuning.preset_file import preset_text
from rlstm.api.tuning.records import Record
from rlstm.core.errors import TuningError
from rlstm.core.files import write_atomically
from rlstm.core.number_text import number
from rlstm.core.version import __version__

if TYPE_CHECKING:
    from rlstm.api.tuning.study import SharedStudy

PRESET_FILE = "best.toml"
_MOST_REASONS = 5
_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


@dataclass(frozen=True)
class TuneResult:
    """How a search ended."""

    study_dir: str
    preset_file: str
    """TOML file of the settings that won, for ``rlstm train AGENT --config``."""

    start: str
    """A preset, a file, or the default settings, whichever the search began with."""

    finalists: list[Finalist]
    """Those of the final round, the winner first."""

    trials: list[Record]
    importances: dict[str, float]
    """Shares of the settings in what set the best trials apart; empty for too few trials."""

    @property
    def winner(self) -> Finalist:
        """The settings that won."""
        return self.finalists[0]

    @property
    def beginning(self) -> Finalist:
        """The settings that the search began with."""
        return next(one for one in self.finalists if one.trial is None)

    @property
    def comparison(self) -> Comparison | None:
        """The winner beside what the search began with; None if that won itself, or a run of it failed."""
        return None if self.winner.trial is None else compare(self.winner, self.beginning)

    def verdict(self) -> str:
        """Return in a sentence what won."""
        winner = self.winner
        if winner.trial is None:
            return f"Nothing beat the {self.start}: {number(winner.mean)} over the fresh seeds."
        if self.comparison is None:
            return f"Trial {winner.trial} wins with {number(winner.mean)}; a run of the {self.start} failed."
        gain, error = self.comparison.difference, self.comparison.error
        told = f"Trial {winner.trial} beats the {self.start} by {number(gain)}"
        if error is None:
            return f"{told}, on one seed: whether that is luck, more --final-seeds tell."
        size = "more" if self.comparison.is_clear else "less"
        advice = "" if self.comparison.is_clear else ", so it may be luck: more --final-seeds tell"
        return f"{told}, {size} than two standard errors of that difference ({number(error)} each){advice}."


def conclude(study: SharedStudy) -> TuneResult:
    """Return what a finished study found, and write the preset file.

    Raises:
        TuningError: If every trial failed, or every run of the final round, with the reasons.
    """
    plan, trials = study.plan, study.trials()
    if not any(one.outcome == "done" for one in trials):
        raise TuningError(f"No trial could be trained to its end. {_reasons(trials)}")
    runs = study.final_runs()
    found = finalists(plan, trials, runs)
    if found[0].mean is None:
        raise TuningError(f"No finalist could be trained on every fresh seed. {_reasons(runs)}")
    path = study.folder / PRESET_FILE
    played = [one for one in trials if one.outcome in ("done", "pruned", "failed")]
    result = TuneResult(str(study.folder), str(path), plan.start, found, played, study.importances())
    write_atomically(path, _preset(plan, result, study.folder).encode())
    return result


def _preset(plan: Plan, result: TuneResult, folder: Path) -> str:
    winner = result.winner
    config = plan.experiment(winner.values, plan.base.run.seed, folder, final=True)
    # The start keeps what it left open: None stands for a default that depends on other settings.
    config = plan.base if winner.trial is None else config
    remarks = [
        f"Found by rlstm {__version__} tune {plan.base.agent}: {len(result.trials)} trials of {plan.steps:,} steps.",
        result.verdict(),
        f"Mean return {number(winner.mean)} over {winner.on()}.",
        f"rlstm train {plan.base.agent} --config {shlex.quote(result.preset_file)}",
    ]
    return preset_text(config, [line for remark in remarks for line in textwrap.wrap(remark, 118, **_WHOLE_WORDS)])


def _reasons(records: Sequence[Record]) -> str:
    """Return why trials failed, each reason once, with how often."""
    reasons: dict[str, int] = {}
    for one in records:
        if one.outcome == "failed" and one.reason:
            reasons[one.reason] = reasons.get(one.reason, 0) + 1
    told = sorted(reasons.items(), key=lambda item: -item[1])
    more = f" and {len(told) - _MOST_REASONS} more reasons" if len(told) > _MOST_REASONS else ""
    listed = "; ".join(f"{count} x {' '.join(reason.split())}" for reason, count in told[:_MOST_REASONS])
    return f"{listed or 'All were pruned'}{more}"


def as_json(result: TuneResult) -> dict[str, Any]:
    """Return a result for programs."""
    comparison = result.comparison
    values = {name: getattr(result, name) for name in ("study_dir", "preset_file", "start", "importances", "trials")}
    return {
        **values,
        "verdict": result.verdict(),
        "winner": result.winner.trial,
        "settings": result.winner.values,
        "beats_start": result.winner.trial is not None,
        "difference": None if comparison is None else comparison.difference,
        "difference_error": None if comparison is None else comparison.error,
        "finalists": [{**vars(one), "mean": one.mean, "error": one.error} for one in result.finalists],
    }
