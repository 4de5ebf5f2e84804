"""The settings that won, as a TOML file for ``rlstm train AGENT --config``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlstm.api.configs import config_from_layers
from rlstm.training.config import ConfigError, ExperimentConfig

_OF_A_RUN = (
    *("seed", "run_dir", "device", "num_threads"),
    *("eval_every", "eval_episodes", "record_every", "checkpoint_every", "keep_checkpoints"),
)
"""Settings that decide what a run is called, where it computes, and how it is watched."""


def preset_text(config: ExperimentConfig[Any], remarks: Sequence[str] = ()) -> str:
    """Return the settings of an experiment that differ from the defaults of its agent.

    Args:
        config: The experiment.
        remarks: Lines at the head.

    Raises:
        ConfigError: If TOML can't hold a setting.
    """
    defaults = config_from_layers(config.agent, None, complete=False).settings()
    own = {
        name: value
        for name, value in config.settings().items()
        if name not in _OF_A_RUN and repr(value) != repr(defaults[name])
    }
    lines = [f"# {remark}" for remark in remarks]
    lines += [f"{name} = {_value(name, value)}" for name, value in {"agent": config.agent, **own}.items()]
    return "\n".join(lines) + "\n"


def _value(name: str, value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(name, item) for item in value)}]"
    if isinstance(value, Mapping) and None not in value.values():
        items = [f"{_key(str(key))} = {_value(f'{name}.{key}', item)}" for key, item in value.items()]
        return f"{{ {', '.join(items)} }}" if items else "{}"
    raise ConfigError(f"{name} is {value!r}, which a TOML file can't hold: give numbers, text, lists or tables.")


def _key(text: str) -> str:
    return text if re.fullmatch(r"[\w-]+", text, re.ASCII) else json.dumps(text, ensure_ascii=False)
