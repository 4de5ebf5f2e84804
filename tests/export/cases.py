"""Policies to export: every cell, and every kind of observation, action and memory, small and with noisy weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlstm.cells import CELLS
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.export import Runner
from rlstm.export.step import ExportedStep
from rlstm.policies.policy import RecurrentPolicy
from tests import kit

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (6, 5, 3), np.uint8)
DICT = spaces.Dict(
    {
        "camera": IMAGE,
        "pair": spaces.Tuple((spaces.Box(-np.inf, np.inf, (2, 2), np.float32), spaces.Discrete(3, start=-1))),
        "bits": spaces.MultiBinary(2),
        "kinds": spaces.MultiDiscrete([2, 3], start=[1, 0]),
        "count": spaces.Box(0, 1000, (1,), np.int32),
    }
)
MASKED = spaces.Dict({**DICT.spaces, "action_mask": spaces.MultiBinary(3)})
CLOCK = spaces.Dict({"clock": spaces.Box(0, np.inf, (1,), np.float64), "x": spaces.Box(0, np.inf, (2,), np.float32)})
LOW, HIGH = np.float32([[-1, 0.5], [-3, 0]]), np.float32([[2, 0.7], [np.inf, 0]])
UNEVEN = spaces.Box(LOW, HIGH, (2, 2), np.float32)
BOUNDED = spaces.Box(np.array([-1.0, 2.0]), np.array([3.0, 2.5]), (2,), np.float64)
CHOICES = spaces.MultiDiscrete([[2, 1], [4, 3]], start=[[0, 1], [2, 0]])
SEEN = InputsConfig(previous_action=True, previous_reward=True, episode_start=True)
TRIALS = MemoryConfig(lifetime="trial", episodes_per_trial=3)
LIFELONG = MemoryConfig(lifetime="lifelong")


def _cell(name: str) -> dict[str, Any]:
    is_image = CELLS[name].reads_maps
    return {"observation_space": IMAGE if is_image else VECTOR, "cell": name, "inputs": SEEN, "hidden_size": 8}


CASES: dict[str, dict[str, Any]] = {
    **{name: _cell(name) for name in CELLS},
    "dict_and_box": {"observation_space": DICT, "action_space": UNEVEN, "memory": TRIALS, "critic_memory": "separate"},
    "unit_box": {"action_space": UNEVEN, "scale_actions": False, "inputs": SEEN, "scale_rewards": False},
    "one_number": {
        "action_space": spaces.Box(-2, 2, (1,), np.float32),
        "memory": LIFELONG,
        "critic_memory": "separate",
    },
    "squashed_box": {"action_space": BOUNDED, "squash_actions": True, "memory": LIFELONG},
    "choices": {"action_space": CHOICES, "memory": TRIALS},
    "flat_choices": {"action_space": spaces.MultiDiscrete([2, 3]), "inputs": SEEN},
    "bits": {"action_space": spaces.MultiBinary((2, 2)), "memory": LIFELONG},
    "start": {"action_space": spaces.Discrete(3, start=5), "memory": TRIALS, "observation_space": MASKED},
    "image": {"observation_space": IMAGE, "encoder": "impala", "encoder_kwargs": {"channels": [4]}},
    "embedding": {"observation_space": spaces.Discrete(4, start=2), "encoder": "embedding"},
    "scalar": {"observation_space": spaces.Box(-2, 2, (), np.float32), "encoder_sizes": ()},
    "half": {"observation_space": spaces.Box(-2, 2, (2,), np.float16)},
    "unsigned": {"observation_space": spaces.Box(0, 60000, (2,), np.uint16)},
    "seconds": {"observation_space": spaces.Box(-np.inf, np.inf, (2,), np.float64), "critic_memory": "separate"},
    "elapsed": {"observation_space": CLOCK, "cell": "time_aware_lstm", "elapsed_time": "clock", "num_layers": 2},
    "stack": {"num_layers": 3, "residual": True, "layer_norm": True, "memory": TRIALS, "highway": True},
    "conv_stack": {"observation_space": IMAGE, "cell": "conv_lstm", "num_layers": 2, "hidden_size": 3},
    "mixed_stack": {
        "cell": "mlstm",
        "num_layers": 2,
        "hidden_size": 8,
        "layer_norm": True,
        "critic_memory": "separate",
    },
    "heads": {"head_sizes": (7,), "popart": True, "critic_memory": "detached", "inputs": SEEN},
    "plain": {"normalize_observations": False, "inputs": SEEN, "scale_rewards": False},
    "double": {"dtype": torch.float64, "memory": TRIALS},
}
"""By name, the arguments of ``kit.make_policy``."""

CENTRE = {"seconds": 1.7e9}


def make_policy(case: str) -> RecurrentPolicy:
    """Return the policy of a case, whose normalisers have seen something."""
    plain = {"dtype": torch.float32, "normalize_observations": True, "scale_rewards": True, "observation_space": VECTOR}
    settings = {"encoder_sizes": (6, 6) if CASES[case].get("highway") else (6,), **plain, **CASES[case]}
    policy = kit.make_policy(**settings)
    generator = torch.Generator().manual_seed(3)
    for trunk in policy.trunks():
        if trunk.encoder.moments is not None:
            size = len(trunk.encoder.moments.mean)
            spread = torch.randn(50, size, generator=generator, dtype=torch.float64)
            trunk.encoder.moments.update(CENTRE.get(case, 0.3) + 2 * spread)
    for moments, deviation in ((policy.return_moments, 30), (policy.value_moments, 30), (policy.reward_moments, 4)):
        if moments is not None:
            moments.update(5 + deviation * torch.randn(50, 1, generator=generator))
    return policy.eval()


def eager(step: ExportedStep, change: Callable[[dict[str, torch.Tensor]], None] | None = None) -> Runner:
    """Return a run of a step as it is, without a format; ``change`` may change its outputs."""

    def run(inputs):
        outputs = step({name: torch.as_tensor(array) for name, array in inputs.items()})
        if change is not None:
            change(outputs)
        return {name: leaf.numpy() for name, leaf in outputs.items()}

    return run
