"""The global generators, from which a user's env may draw: their states, to go on from exactly."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def global_generators() -> dict[str, Any]:
    """Return the states of the generators of torch, Python and numpy, from which a user's env may draw."""
    return {
        "torch_rng": torch.get_rng_state(),
        "python_rng": random.getstate(),
        "numpy_rng": np.random.get_state(),  # noqa: NPY002
    }


def set_global_generators(states: Mapping[str, Any]) -> None:
    """Put them back."""
    torch.set_rng_state(states["torch_rng"])
    random.setstate(states["python_rng"])
    np.random.set_state(states["numpy_rng"])  # noqa: NPY002
