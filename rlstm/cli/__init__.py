"""The command line. Each verb is one module of this folder, with a function ``run(words) -> Answer``.

This module is light: asking for help imports neither torch nor tyro. A verb is imported when it is called.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rlstm.core.streams import SteadyStream, open_standard_descriptors

__all__ = ["VERBS", "main"]

VERBS: dict[str, tuple[str, str]] = {
    # verb: its module in this folder, what it does.
    "train": ("train", "train an agent into a new run directory"),
    "evaluate": ("evaluate", "play episodes with a trained agent: return, success, worth of its memory"),
    "resume": ("resume", "go on with a run that was stopped"),
    "tune": ("tune", "search for the settings with which an agent learns an env"),
    "search-cell": ("search_cell", "search for structures of memory cells that learn better than an LSTM"),
    "watch": ("watch", "see a trained agent play, live or as a film"),
    "inspect": ("inspect", "what a memory holds, what actions depend on, how long it lasts"),
    "card": ("card", "write the model card of a run"),
    "record": ("record", "write what a trained agent sees and does, as demonstrations to learn from"),
    "plot": ("plot", "learning curves of runs, over seeds: in the terminal or as a figure"),
    "compare": ("compare", "which runs are better, how surely, and what each loses without its memory"),
    "export": ("export", "write a trained policy for other programs: ONNX, torch.export, C"),
    "envs": ("envs", "list the environments that come with this package"),
    "cells": ("cells", "list the memory cells: parameters, state, speed path"),
    "presets": ("presets", "list the settings found for a task"),
    "check-env": ("check_env", "is this env fit for training, and if not, why"),
}

_FIRST_STEPS = """\
First steps:
  rlstm train ppo --preset tmaze
  rlstm evaluate RUN_DIR --ablate-memory
"""


def usage() -> str:
    """Return the help of the whole command."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {text}" for verb, (_, text) in VERBS.items()]
    head = "usage: rlstm VERB ...\n\nAgents that remember: train, evaluate and compare recurrent RL agents.\n\nVerbs:\n"
    foot = f"\n{_FIRST_STEPS}\nHelp on a verb: rlstm VERB --help. Every verb takes --json."
    return head + "\n".join(lines) + "\n" + foot


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, the words after ``rlstm`` (of the process by default), and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    open_standard_descriptors()
    if not words:
        SteadyStream(sys.stderr, replace=True).write(f"{usage()}\n")
        return 2
    from rlstm.cli.answers import answer, show

    if words[0] in ("-h", "--help"):
        return 0 if show(usage()) else 1
    if words[0] == "--version":
        from rlstm.core.version import __version__

        return 0 if show(f"rlstm {__version__}") else 1
    return answer(words[0], words[1:])
