"""``rlstm inspect RUN_DIR``: what an agent's memory holds and knows, as a page and as facts."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rlstm.cli.answers import Answer
from rlstm.cli.parsing import PlayFlags, named, parse
from rlstm.cli.tables import facts
from rlstm.core.number_text import number


@dataclass(frozen=True, kw_only=True)
class InspectFlags(PlayFlags):
    """Look into an agent's memory: what it holds, what actions depend on, what it knows, how long it lasts."""

    out: Annotated[str | None, named("FILE.html")] = None
    """The page, one file that opens without a network. Default: inspection.html in the run's folder."""

    episodes: int = 5
    """Episodes that the page shows."""

    probe: Annotated[tuple[str, ...], named("KEY")] = ()
    """Numbers in the env's infos to look for in the memory, beside what our own envs hide."""

    probe_episodes: int = 200
    """Episodes that linear probes are fitted to; 0 for none."""

    window_episodes: int = 32
    """Episodes of each evaluation with a memory cut short; 0 for none."""

    max_steps: int = 500
    """Steps after which an episode is cut."""


def run(words: list[str]) -> Answer:
    """Inspect, and say where the page is."""
    flags = parse(InspectFlags, words, "inspect")
    choices = flags.choices()
    from rlstm.api.inspecting import inspect_run

    out = str(Path(flags.run_dir) / "inspection.html") if flags.out is None else flags.out
    names = ("episodes", "probe_episodes", "window_episodes", "seed", "max_steps")
    found = inspect_run(
        flags.run_dir,
        out,
        checkpoint=choices["checkpoint"],
        trust=flags.trust,
        deterministic=choices["deterministic"],
        probes=flags.probe,
        report=_stay_silent if flags.json else _say,
        **{name: getattr(flags, name) for name in names},
    )
    return Answer(_text(found, out), {**found, "page": out})


def _say(text: str) -> None:
    print(f"inspecting: {text} ...", file=sys.stderr, flush=True)


def _stay_silent(text: str) -> None:
    pass


def _text(found: dict[str, Any], out: str) -> str:
    returns, length = found["returns"], found["memory_length"]
    lines = {
        "agent": f"{found['cell']} on {found['env']}, checkpoint {found['checkpoint']}, step {found['step']:,}",
        "episodes": f"{len(returns)}, {found['actions']} actions, mean return {number(sum(returns) / len(returns))}",
    }
    if length["steps"] is not None:
        lines["memory lasts"] = f"{length['steps']} steps. {length['words']}"
    for pair in found["dependence"]["strongest"][:1]:
        lines["depends most"] = (
            f"the action of step {pair['action']} on the observation of step {pair['observation']} "
            f"({pair['effect']:.2f} {found['dependence']['unit']})"
        )
    for one in found["probes"]:
        memory, sight = (sum(one[name]) / len(one[name]) for name in ("from_memory", "from_observation"))
        lines[f"knows {one['name']}"] = (
            f"{one['measure']} {memory:.2f} in the mean over steps; from the observation alone {sight:.2f}"
        )
    if found["time_scales"]["median"] is not None:
        scales = found["time_scales"]
        lines["time scales"] = f"{number(scales['median'])} steps in the median, {number(scales['longest'])} at most"
    return facts({**lines, "page": out})
