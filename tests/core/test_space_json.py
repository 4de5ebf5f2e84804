"""Claims about `rlstm.core.space_json`: every space comes back as what it was, through a file."""

import json

import numpy as np
import pytest
from gymnasium import spaces

from rlstm.core.space_json import space_from_json, space_to_json

SPACES = [
    spaces.Box(-1.5, 2.5, (3,)),
    spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
    spaces.Box(np.array([0.1, -np.inf], np.float32), np.array([np.inf, 1e6], np.float32)),
    spaces.Box(0, 255, (8, 9, 3), np.uint8),
    spaces.Box(-5, 5, (), np.int32),
    spaces.Box(0, 1, (4,), np.bool_),
    spaces.Box(0, 1, (0,)),
    spaces.Discrete(4, start=-2),
    spaces.MultiDiscrete([2, 3], start=[1, -1]),
    spaces.MultiDiscrete([[2, 3], [4, 5]], dtype=np.int32),
    spaces.MultiBinary(3),
    spaces.MultiBinary((2, 3)),
    spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.MultiBinary(1)))}),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_comes_back_as_it_was(space):
    text = json.dumps(space_to_json(space), allow_nan=False)
    back = space_from_json(json.loads(text))
    assert back == space
    assert type(back) is type(space)
    assert back.dtype == space.dtype
    if isinstance(space, spaces.Dict):
        assert list(back.spaces) == list(space.spaces)


def test_an_image_takes_no_room_for_its_bounds():
    assert len(json.dumps(space_to_json(spaces.Box(0, 255, (210, 160, 3), np.uint8)))) < 120


def test_other_spaces_are_refused():
    with pytest.raises(ValueError, match="can't be stored"):
        space_to_json(spaces.Text(3))
    with pytest.raises(ValueError, match="'Text' is no type of space"):
        space_from_json({"type": "Text", "dtype": "<f4"})
