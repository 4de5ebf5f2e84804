"""What is said at the end of several seeds, trained or resumed."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rlstm.cli.answers import FAILED, INTERRUPTED, Answer
from rlstm.cli.tables import facts, table
from rlstm.core.number_text import number, percent

if TYPE_CHECKING:
    from rlstm.api.seed_results import SeedResult, SeedsResult

_HEADER = ("seed", "state", "steps", "steps/s", "return", "success", "evaluation", "best")


def seeds_answer(result: SeedsResult) -> Answer:
    """Return it; exit code 130 if Ctrl-C stopped seeds before their end, 1 if one failed."""
    done, failed = result.of_state("done"), result.of_state("failed")
    over = result.over_seeds()
    folder = shlex.quote(result.run_dir)
    lines = {"run": result.run_dir, "done": f"{len(done)} of {len(result.seeds)} seeds"}
    lines |= {f"seed {one.seed}": f"failed: {one.error}" for one in failed}
    for name, metric, text in (
        ("return", "mean_return", number),
        ("success", "success_rate", percent),
        ("evaluated", "eval_return", number),
    ):
        if (mean := over[metric]["mean"]) is not None:
            lines[name] = f"{text(mean)} in the mean over these seeds, interquartile mean {text(over[metric]['iqm'])}"
    lines["curves"] = f"rlstm plot {folder}{result.import_words}"
    if not result.complete:
        lines["go on"] = f"rlstm resume {folder}{result.import_words}"
    stopped = result.interrupted and not result.complete
    code = INTERRUPTED if stopped else FAILED if failed else 0
    shown = table(_HEADER, [_cells(one) for one in result.seeds])
    return Answer(f"{shown}\n\n{facts(lines)}", _values(result, over), exit_code=code)


def _cells(one: SeedResult) -> tuple[str, ...]:
    return (
        str(one.seed),
        one.state,
        f"{one.steps:,}",
        number(one.steps_per_second, unknown=""),
        number(one.mean_return, unknown=""),
        percent(one.success_rate, unknown=""),
        number(one.eval_return, unknown=""),
        number(one.best_return, unknown=""),
    )


def _values(result: SeedsResult, over: dict[str, dict[str, float | None]]) -> dict[str, Any]:
    counts = {state: len(result.of_state(state)) for state in ("done", "failed", "stopped", "waiting")}
    return {
        "run_dir": result.run_dir,
        "seeds": [asdict(one) for one in result.seeds],
        "num_seeds": len(result.seeds),
        **counts,
        "over_done_seeds": over,
        "interrupted": result.interrupted,
        "complete": result.complete,
    }
