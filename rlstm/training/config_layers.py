"""Layers of settings: one over another, and the file that holds one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlstm.training.config import ConfigError
from rlstm.training.setting_names import with_present_names


def layer(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings ``base`` with those of ``over`` on top.

    The arguments of an env are replaced one by one; another env takes over none of them, and none of the wrappers, and
    another cell none of the options of a cell.
    """
    low, high = with_present_names(base), with_present_names(over)
    result = {**low, **high}
    if low.get("env") and high.get("env", low["env"]) != low["env"]:
        result["env_kwargs"] = high.get("env_kwargs", {})
        result["env_wrappers"] = high.get("env_wrappers", ())
    elif isinstance(high.get("env_kwargs"), Mapping) and "env_kwargs" in low:
        result["env_kwargs"] = {**low["env_kwargs"], **high["env_kwargs"]}
    if low.get("cell") and high.get("cell", low["cell"]) != low["cell"]:
        result["cell_kwargs"] = high.get("cell_kwargs", {})
    return result


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Return the settings of a TOML file.

    Raises:
        ConfigError: If it can't be read, or isn't TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Can't read the config file {path}: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The config file {path} is not valid TOML: {error}.") from error
