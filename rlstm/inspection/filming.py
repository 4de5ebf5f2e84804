"""One episode of an agent as a small film, for the images of a run's log."""

from __future__ import annotations

from contextlib import closing

from gymnasium.envs.registration import EnvSpec

from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.inspection.pictures import Picture, Pixels, encode_film, film_episode
from rlstm.inspection.playback import Playback, frames_per_second, make_env, render_modes
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.config import EnvConfig

_MOST_STEPS, _MOST_PICTURES = 300, 100


def film(
    policy: RecurrentPolicy,
    spec: EnvSpec,
    config: EnvConfig,
    memory: MemoryConfig,
    *,
    seed: int,
    deterministic: bool,
    title: str,
) -> bytes | None:
    """Return the first episode of a playback as a GIF, or None if the env draws no images.

    Of a long episode the first 300 steps are shown, and no more than 100 pictures.
    """
    if "rgb_array" not in render_modes(spec, config):
        return None
    with closing(make_env(spec, config, memory, render_mode="rgb_array")) as env:
        playback = Playback(policy, env, seed=seed, deterministic=deterministic, max_steps=_MOST_STEPS)
        pictures = film_episode(playback.play(), title, frames_per_second(env), _refuse_text)
    return encode_film(_thinned(pictures))


def _thinned(pictures: list[Picture]) -> list[Picture]:
    stride = -(-len(pictures) // _MOST_PICTURES)
    kept = [one._replace(seconds=one.seconds * stride) for one in pictures[:-1:stride]]
    return [*kept, pictures[-1]]


def _refuse_text(text: str) -> Pixels:
    raise ValueError("The env gives text where it was asked for an image.")
