"""The best returns with and without memory, where the env of a run declares them."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from rlstm.api.stored_runs import read_config, read_spec
from rlstm.training.run_directory import RunDirectory
from rlstm.vector.references import REFERENCES, references


def run_references(
    run_dir: str | os.PathLike[str], env_kwargs: Mapping[str, Any] | None = None, *, trust: bool = False
) -> dict[str, float | None]:
    """Return the references of a run's env; None under wrappers and in trials, for which they don't hold.

    Args:
        run_dir: The run's folder.
        env_kwargs: Arguments of the env to change.
        trust: Import the modules that the run names, and take its env from the entry points that it names.
    """
    directory = RunDirectory.open(run_dir)
    config = read_config(directory)
    # The references are those of the whole task, drawn anew in each episode.
    if config.env.env_wrappers or (config.memory.episodes_per_trial or 1) > 1:
        return dict.fromkeys(REFERENCES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Whoever trained the run has seen them.
        kwargs = {**config.env.env_kwargs, **(env_kwargs or {})}
        env = gym.make(read_spec(directory, config, trust=trust), disable_env_checker=True, **kwargs)
    with contextlib.closing(env):
        return references(env.unwrapped)
