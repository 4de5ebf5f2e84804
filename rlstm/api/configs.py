"""From settings to an experiment: those of the user over a preset over the agent's defaults. Free of torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlstm.core.errors import unknown_name
from rlstm.training.config import ConfigError, ExperimentConfig, build_config
from rlstm.training.config_layers import layer
from rlstm.training.presets import find_preset


def make_config(agent: str, preset: str | None = None, **settings: Any) -> ExperimentConfig[Any]:
    """Build an experiment from settings over a preset over the defaults.

    Args:
        agent: Name of the agent, see ``rlstm.agents.AGENTS``.
        preset: Name of a preset, see ``rlstm presets``.
        **settings: By the names of the flags.

    Raises:
        UnknownNameError: If the agent or the preset is unknown.
        ConfigError: If a setting is unknown or has a wrong value, or the preset is another agent's.
    """
    return config_from_layers(agent, preset, settings)


def agents_with(name: str) -> list[str]:
    """Return the agents that have a setting of their own of this name."""
    from rlstm.agents import AGENTS, load_agent_config

    return [agent for agent in AGENTS if name in {field.name for field in dataclasses.fields(load_agent_config(agent))}]


def config_from_layers(
    agent: str, preset: str | None, *layers: Mapping[str, Any], complete: bool = True
) -> ExperimentConfig[Any]:
    """Build an experiment from layers of settings over a preset, or none, the later layers winning.

    See ``make_config``, and for ``complete`` ``build_config``.
    """
    from rlstm.agents import AGENTS, load_agent_config

    if agent not in AGENTS:
        raise unknown_name("agent", agent, AGENTS)
    algorithm_type = load_agent_config(agent)
    settings: dict[str, Any] = dict(algorithm_type.defaults)
    if preset is not None:
        found = find_preset(preset)
        if found.agent != agent:
            raise ConfigError(f"Preset '{preset}' is for agent '{found.agent}', not '{agent}'.")
        settings = layer(settings, found.settings)
    for one in layers:
        settings = layer(settings, one)
    for name in settings:
        others = agents_with(name)
        if others and agent not in others:
            raise ConfigError(f"'{name}' is a setting of {' and '.join(others)}, not of {agent}: leave it out.")
    return build_config(agent, algorithm_type, settings, complete=complete)
