"""Agents. Adding one is one file in this folder and one line in ``AGENTS``."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["AGENTS", "load_agent"]

AGENTS: dict[str, tuple[str, str, str]] = {
    # name: module, agent class, config class. Modules are imported when an agent is used.
    "ppo": ("rlstm.agents.ppo", "PPO", "PPOConfig"),
    "reinforce": ("rlstm.agents.reinforce", "REINFORCE", "REINFORCEConfig"),
    "evolino": ("rlstm.agents.evolino", "Evolino", "EvolinoConfig"),
    "random": ("rlstm.agents.random_agent", "RandomAgent", "RandomConfig"),
}


def load_agent(name: str) -> tuple[type[Any], type[Any]]:
    """Return the agent class and the config class called ``name``.

    Raises:
        KeyError: If there is no such agent.
    """
    module_name, agent, config = AGENTS[name]
    module = importlib.import_module(module_name)
    return getattr(module, agent), getattr(module, config)
