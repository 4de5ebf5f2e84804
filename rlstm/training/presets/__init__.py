"""Presets: settings found for a task, by name. A flag or a config file changes any of them."""

from __future__ import annotations

from rlstm.core.errors import unknown_name
from rlstm.training.presets.neuroevolution import NEUROEVOLUTION
from rlstm.training.presets.policy_gradients import POLICY_GRADIENTS
from rlstm.training.presets.preset import Preset
from rlstm.training.presets.teaching import TEACHING

__all__ = ["PRESETS", "Preset", "find_preset", "presets_for"]

PRESETS: dict[str, Preset] = {**POLICY_GRADIENTS, **NEUROEVOLUTION, **TEACHING}


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        UnknownNameError: If there is none of this name, with the nearest one.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


def presets_for(agent: str, env: str) -> list[str]:
    """Return the names of an agent's presets for an env, by its id."""
    return [name for name, one in PRESETS.items() if (one.agent, one.settings["env"]) == (agent, env)]
