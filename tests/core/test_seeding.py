"""Claims about `rlstm.core.seeding`: one seed, many streams that share nothing."""

from __future__ import annotations

import json
import random
import typing
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from rlstm.core.seeding import Stream, generator, integer_seeds, seed_everything

STREAMS: tuple[Stream, ...] = typing.get_args(Stream)


@pytest.fixture
def restored() -> Iterator[None]:
    """Put the global generators back."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])


def test_no_two_seeds_and_no_two_streams_share_a_env_seed() -> None:
    """`seed + lane`, the usual way, gives lane 1 of seed 1 and lane 0 of seed 2 the same stream."""
    drawn = [word for seed in range(30) for stream in STREAMS for word in integer_seeds(seed, stream, 64)]
    assert len(set(drawn)) == len(drawn) == 30 * len(STREAMS) * 64
    assert not set(integer_seeds(1, "envs", 1000)) & set(integer_seeds(2, "envs", 1000))


def test_the_seeds_of_every_stream_stay_what_they_were() -> None:
    """Else a run that was written before would go on with other episodes."""
    assert [integer_seeds(0, stream, 1)[0] for stream in STREAMS] == [
        4334430513956379144,
        2440950710608614359,
        8226343694796210948,
        6619194650426729951,
        8366031049750315900,
        7076583287685412047,
        337988958638385868,
        8123779382384759428,
        5025176454403021219,
        8540840297648758036,
        525034912271016516,
        7977528021357610235,
        4623547087056824551,
        7381933184297297234,
        792279152201816090,
        7347442707431823221,
        8892492159873756792,
        984593597096597338,
        5673872058584521175,
        2665457390300067522,
        7515880314730834522,
    ]


def test_seeds_are_python_integers_that_every_generator_takes() -> None:
    seeds = integer_seeds(3, "envs", 500)
    assert all(type(seed) is int for seed in seeds)
    assert min(seeds) >= 0
    assert 2**61 < max(seeds) < 2**63
    json.dumps(seeds)
    torch.Generator().manual_seed(seeds[0])
    np.random.default_rng(seeds[0])


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_is_the_same_every_time_and_more_seeds_begin_with_the_fewer(stream: Stream) -> None:
    assert integer_seeds(5, stream, 4) == integer_seeds(5, stream, 9)[:4]
    assert integer_seeds(5, stream, 4) != integer_seeds(6, stream, 4)


def test_a_large_seed_is_used_whole() -> None:
    assert integer_seeds(2**40, "envs", 1) != integer_seeds(0, "envs", 1)
    assert integer_seeds(2**70 + 1, "envs", 1) != integer_seeds(1, "envs", 1)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed is -1; it must be 0 or larger"):
        integer_seeds(-1, "envs", 1)


def test_generators_of_a_stream_repeat_and_those_of_others_differ() -> None:
    draws = {
        (seed, stream): tuple(torch.rand(3, generator=generator(seed, stream)).tolist())
        for seed in range(3)
        for stream in STREAMS
    }
    assert len(set(draws.values())) == 3 * len(STREAMS)
    assert draws[1, "actions"] == tuple(torch.rand(3, generator=generator(1, "actions")).tolist())
    assert generator(0, "actions").device == torch.device("cpu")
    indices = [generator(0, "explorations_actions", index=index).initial_seed() for index in (None, 0, 1, 2, 1)]
    assert len(set(indices)) == 4


@pytest.mark.usefixtures("restored")
def test_the_global_generators_of_torch_numpy_and_python_follow_the_seed() -> None:
    def draw(seed: int) -> tuple[float, float, float]:
        seed_everything(seed)
        return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002

    first, again, other = draw(1), draw(1), draw(2)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
