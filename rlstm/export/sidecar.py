"""``policy.json``: what a program must know to run an exported step, beside the model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.version import __version__
from rlstm.evaluation.demonstrations import describe_space
from rlstm.export.step import ExportedStep, Leaf
from rlstm.policies.distributions import Gaussian, MultiCategorical
from rlstm.policies.policy import RecurrentPolicy

FILE = "policy.json"
FORMAT_VERSION = 1


def describe(
    step: ExportedStep, policy: RecurrentPolicy, folder: Path, versions: Mapping[str, str], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content, of JSON's types.

    Args:
        step: What was written.
        policy: It is a step of this one.
        folder: Holds the files of the model, whose checksums are taken.
        versions: Of what wrote them.
        facts: More entries: run, checkpoint, ...
    """
    return {
        **describe_policy(policy, folder, versions, facts),
        "distribution": _distribution(step),
        "inputs": [_leaf(leaf) for leaf in step.inputs],
        "outputs": [_leaf(leaf) for leaf in step.outputs],
        "feedback": step.feedback,
        "initial_state": {name: _values(leaf[0].numpy()) for name, leaf in step.initial_state(1).items()},
    }


def describe_policy(
    policy: RecurrentPolicy, folder: Path, versions: Mapping[str, str], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what holds of every format; arguments as of ``describe``."""
    return {
        "format": "rlstm policy",
        "format_version": FORMAT_VERSION,
        "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())},
        "versions": {"rlstm": __version__, "torch": torch.__version__, **versions},
        **facts,
        "observation_space": describe_space(policy.observation_space, bounds=True),
        "action_space": describe_space(policy.action_space, bounds=True),
        "memory": _memory(policy.memory),
    }


def _leaf(leaf: Leaf) -> dict[str, Any]:
    """Return name, shape (the number of rows is None) and type; of a part of the observation where it stands too."""
    described = {"name": leaf.name, "shape": [None, *leaf.shape], "dtype": str(leaf.dtype).removeprefix("torch.")}
    if leaf.path is not None:
        described["path"] = list(leaf.path)
    if isinstance(leaf.space, spaces.Discrete | spaces.MultiDiscrete):
        size = leaf.space.n if isinstance(leaf.space, spaces.Discrete) else leaf.space.nvec
        described |= {"low": np.asarray(leaf.space.start).tolist(), "high": (leaf.space.start + size - 1).tolist()}
    return described


def _distribution(step: ExportedStep) -> dict[str, Any]:
    """Return what the parameters mean, and the standard form of the noise that samples."""
    one = step.distribution
    described: dict[str, Any] = {"kind": type(one).__name__.lower(), "noise": step.noise_kind}
    if isinstance(one, Gaussian):
        described["log_std"] = one.log_std.tolist()
    else:
        described["sizes"] = one.sizes if isinstance(one, MultiCategorical) else [one.num_parameters]
    return described


def _memory(memory: MemoryConfig) -> dict[str, Any]:
    when = {
        "episode": "before the first step of every episode",
        "trial": "before the first step of every trial",
        "lifelong": "before the first step of all, and never again",
    }
    return {
        "lifetime": memory.lifetime,
        "episodes_per_trial": memory.episodes_per_trial,
        "reset": when[memory.lifetime],
    }


def _values(leaf: np.ndarray[Any, Any]) -> Any:
    """Return the initial values of one row: one number if they are all the same."""
    first = leaf.flat[0].item() if leaf.size else 0.0
    return first if (leaf == first).all() else leaf.tolist()
