"""``rlstm watch RUN_DIR``: see an agent play, live or as a film."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Annotated, Any

from rlstm.cli.answers import Answer, UsageError
from rlstm.cli.parsing import Json, PlayFlags, named, parse
from rlstm.cli.tables import facts
from rlstm.core.number_text import number


@dataclass(frozen=True, kw_only=True)
class WatchFlags(PlayFlags):
    """Watch an agent play: in the env's own window, as text in the terminal, or as a film in a file."""

    out: Annotated[str | None, named("FILE")] = None
    """Write a film: .gif, .png (animated) or .mp4, which needs rlstm-torch[video]."""

    episodes: int = 3
    """Episodes to play."""

    beside: Annotated[str | None, named("RUN_DIR|ablated")] = None
    """Show another run of the same env beside it, or, with 'ablated', the same agent without its memory."""

    ablate_memory: Json = False
    """Reset the memory before every step."""

    fps: float | None = None
    """Steps a second. Default: what the env says, or 10."""

    max_steps: int = 1000
    """Steps after which an episode is cut."""

    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the env to change; values are read as JSON."""


def run(words: list[str]) -> Answer:
    """Play, and write or show it."""
    flags = parse(WatchFlags, words, "watch")
    for name, value in (("episodes", flags.episodes), ("max-steps", flags.max_steps)):
        if value < 1:
            raise UsageError(f"--{name} is {value}; it must be at least 1.")
    if flags.fps is not None and flags.fps <= 0:
        raise UsageError(f"--fps is {flags.fps:g}; it must be above 0.")
    if flags.beside and (flags.out is None or flags.ablate_memory):
        raise UsageError("--beside needs --out, since one window shows one agent, and goes without --ablate-memory.")
    choices = flags.choices()
    from rlstm.api import watching

    shown = watching.screenings(
        flags.run_dir,
        beside=flags.beside,
        ablate_memory=flags.ablate_memory,
        checkpoint=choices["checkpoint"],
        trust=flags.trust,
        env_kwargs=flags.env_kwargs,
    )
    play: dict[str, Any] = {name: getattr(flags, name) for name in ("episodes", "seed", "fps", "max_steps")}
    play["deterministic"] = choices["deterministic"]
    if flags.out is not None:
        path, returns = watching.write(shown, flags.out, **play)
    else:
        returns = [watching.live(shown[0], say=lambda text: print(text, file=sys.stderr), **play)]
        path = None
    titles = [one.title for one in shown]
    values = {"out": None if path is None else str(path), "titles": titles, "returns": returns}
    lines = {title: f"returns {', '.join(map(number, one))}" for title, one in zip(titles, returns, strict=True)}
    return Answer(facts({**lines, **({} if path is None else {"film": str(path)})}), values)
