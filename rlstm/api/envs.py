"""From the settings of an env to its spec, ours or another's. Free of torch, so that a wrong id is told at once."""

from __future__ import annotations

from gymnasium.envs.registration import EnvSpec

from rlstm.training.config import ConfigError, refusals_name_settings
from rlstm.vector.config import EnvConfig
from rlstm.vector.specs import resolve_spec, with_wrappers


def resolve_env(config: EnvConfig) -> EnvSpec:
    """Return the spec of an env, ours or another's, with its wrappers.

    Raises:
        EnvironmentFailure: If a module fails to import.
        UnknownNameError: If there is no such env or wrapper.
        ConfigError: If there is no id, or a wrapper can't be given this value.
    """
    if not isinstance(config.env, str):
        raise ConfigError(
            f"env is {config.env!r}; it must be the id of a registered env. gymnasium.register('my/Env-v0', MyEnv) "
            "gives a class one."
        )
    if not config.env:
        raise ConfigError("No env was given: name one with --env, see 'rlstm envs'.")
    from rlstm.envs.wrappers import WRAPPERS  # Importing the package registers our envs.

    with refusals_name_settings():
        return with_wrappers(resolve_spec(config), config.env_wrappers, WRAPPERS)
