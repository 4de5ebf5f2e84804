"""``rlstm record RUN_DIR --episodes N``: what a trained agent sees and does, as demonstrations to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from rlstm.cli.answers import Answer
from rlstm.cli.parsing import Json, PlayFlags, how, named, parse
from rlstm.cli.tables import facts
from rlstm.core.number_text import number, percent


@dataclass(frozen=True, kw_only=True)
class RecordFlags(PlayFlags):
    """Play complete episodes with a trained agent, and write what it saw and did."""

    episodes: int
    """Complete episodes to play; rounded up to whole trials."""

    output: Annotated[str | None, named("FILE")] = None
    """The file to write; it must not exist. Default: demonstrations.safetensors in the run's folder."""

    only_successes: Json = False
    """Keep of what is played the episodes that succeed, and the trials that end in success."""


def run(words: list[str]) -> Answer:
    """Record the run."""
    flags = parse(RecordFlags, words, "record")
    choices = flags.choices()
    from rlstm.api.finished_runs import record
    from rlstm.training.run_directory import RunDirectory

    demonstrations = record(
        flags.run_dir,
        episodes=flags.episodes,
        output=flags.output,
        only_successes=flags.only_successes,
        **choices,
    )
    chosen = flags.chosen()
    values = {
        **chosen,
        "path": flags.output or str(RunDirectory(flags.run_dir).demonstrations_path),
        "episodes_played": demonstrations.metadata["episodes_played"],
        "episodes": demonstrations.num_episodes,
        "steps": demonstrations.num_steps,
        "mean_return": demonstrations.mean_return,
        "success_rate": demonstrations.metadata["success_rate"],
    }
    return Answer(_text(values), values)


def _text(values: dict[str, Any]) -> str:
    success = percent(values["success_rate"], unknown="unknown: the env reports no info['is_success']")
    lines = {
        "run": values["run_dir"],
        "played": f"{number(values['episodes_played'])} episodes; {how(values)}; success {success}",
        "written": f"{number(values['episodes'])} episodes, {number(values['steps'])} steps",
        "return": number(values["mean_return"]),
        "file": values["path"],
    }
    return facts(lines)
