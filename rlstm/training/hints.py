"""Commands that go on with a run, as messages name them: whole, so that they can be copied."""

from __future__ import annotations

import os
import shlex

from rlstm.vector.config import EnvConfig


def import_words(config: EnvConfig) -> str:
    """Return the flag that names the modules of an env, after a space; nothing if there are none.

    A run does not import them by itself: its folder may be another's.
    """
    return f" --env-import {shlex.join(config.modules)}" if config.modules else ""


def run_words(path: str | os.PathLike[str], config: EnvConfig) -> str:
    """Return what follows a verb that plays or goes on with a run."""
    return f"{shlex.quote(os.fspath(path))}{import_words(config)}"
