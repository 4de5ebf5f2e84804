"""Experiments as JSON, as a run keeps them. Free of torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlstm.api.configs import config_from_layers
from rlstm.core.tagged_json import decode, encode
from rlstm.training.config import ConfigError, ExperimentConfig, refusals_name_settings

FREE_FORM = ("env_kwargs", "cell_kwargs", "encoder_kwargs")
"""Settings that may hold any value that ``encode`` takes."""


def stored_form(config: ExperimentConfig[Any]) -> dict[str, Any]:
    """Return an experiment as JSON.

    Raises:
        ConfigError: If an argument of the env or the cell can't be written.
    """
    settings = config.settings()
    try:
        return {
            "agent": config.agent,
            "settings": settings | {name: encode(settings[name], name) for name in FREE_FORM},
        }
    except ValueError as error:
        raise ConfigError(str(error)) from error


def read_stored(stored: Mapping[str, Any]) -> ExperimentConfig[Any]:
    """Return the experiment that ``stored_form`` wrote.

    Raises:
        ConfigError: If this version doesn't know a setting of it.
    """
    own = stored["settings"]
    settings = {**own, **{name: decode(own[name]) for name in FREE_FORM if name in own}}
    return config_from_layers(stored["agent"], None, settings)


def with_run(config: ExperimentConfig[Any], **changed: Any) -> ExperimentConfig[Any]:
    """Return the experiment with some settings of its run changed.

    Raises:
        ConfigError: If one is out of range.
    """
    with refusals_name_settings():
        return dataclasses.replace(config, run=dataclasses.replace(config.run, **changed))
