"""Films of episodes that a run shows among TensorBoard's images."""

from __future__ import annotations

from typing import Any

from gymnasium.envs.registration import EnvSpec

from rlstm.policies.policy import RecurrentPolicy
from rlstm.training.config import ExperimentConfig, RunConfig

_FILMED_STEPS = 20_000  # Of a run that ends with a film by default.


def film_is_due(config: RunConfig, evaluations: int, finished: bool) -> bool:
    """Return whether to film after so many evaluations: every ``record_every``, or at the end of a longer run."""
    if config.record_every is None:
        return finished and config.eval_env == "own" and config.total_steps >= _FILMED_STEPS
    return config.record_every > 0 and evaluations % config.record_every == 0


def make_film(
    policy: RecurrentPolicy, spec: EnvSpec, config: ExperimentConfig[Any], step: int, *, deterministic: bool
) -> tuple[bytes | None, str]:
    """Return a film of an episode, and why there is none if the env can't be drawn."""
    from rlstm.inspection.filming import film

    try:
        gif = film(
            policy,
            spec,
            config.env,
            config.memory,
            seed=config.run.seed,
            deterministic=deterministic,
            title=f"{config.env.env}, step {step:,}",
        )
    except (Exception, SystemExit) as error:  # Whatever a user's drawing raises: the run is worth more.
        return None, f"{type(error).__name__}: {error}"
    return gif, "it draws no images ('rgb_array' is not in metadata['render_modes'])"


def film_shape(gif: bytes) -> tuple[int, int]:
    """Return height and width of a film."""
    width, height = (int.from_bytes(gif[place : place + 2], "little") for place in (6, 8))  # Of its header.
    return height, width
