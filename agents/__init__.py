"""Agents. Adding one is a file in this folder, one in ``configs/`` for its settings, and one line in ``AGENTS``."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["AGENTS", "load_agent", "load_agent_config"]

AGENTS: dict[str, tuple[str, str, str]] = {
    # name: module in this folder and in configs/, agent class, config class. Modules are imported when they are used.
    "ppo": ("ppo", "PPO", "PPOConfig"),
    "reinforce": ("reinforce", "REINFORCE", "REINFORCEConfig"),
    "evolino": ("evolino", "Evolino", "EvolinoConfig"),
    "teacher": ("teacher", "Teacher", "TeacherConfig"),
    "random": ("random_agent", "RandomAgent", "RandomConfig"),
}


def load_agent(name: str) -> tuple[type[Any], type[Any]]:
    """Return the agent class and the config class called ``name``.

    Raises:
        KeyError: If there is no such agent.
    """
    module_name, agent, _ = AGENTS[name]
    return getattr(importlib.import_module(f"rlstm.agents.{module_name}"), agent), load_agent_config(name)


def load_agent_config(name: str) -> type[Any]:
    """Return the config class of the agent called ``name``, without importing torch.

    Raises:
        KeyError: If there is no such agent.
    """
    module_name, _, config = AGENTS[name]
    config_type: type[Any] = getattr(importlib.import_module(f"rlstm.agents.configs.{module_name}"), config)
    return config_type
