"""Observations as arrays: what will do, and what is refused by its place."""

import numpy as np
import pytest
from gymnasium import spaces

from rlstm.core.observations import fitted

SPACE = spaces.Dict(
    {
        "pair": spaces.Tuple((spaces.Box(0, 9, (2,), np.float32), spaces.Discrete(3, start=1))),
        "choices": spaces.MultiDiscrete([2, 3]),
        "bits": spaces.MultiBinary(2),
    }
)
GOOD = {"pair": ([1, 2.5], 3), "choices": [1, 2], "bits": np.array([0, 1], dtype=np.int8)}


def test_lists_numbers_and_wider_types_become_arrays():
    found = fitted(GOOD, SPACE)
    assert isinstance(found["pair"], tuple)
    leaves = [*found["pair"], found["choices"], found["bits"]]
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
    assert [leaf.tolist() for leaf in leaves] == [[1.0, 2.5], 3, [1, 2], [0, 1]]


def test_values_beyond_the_bounds_of_a_box_stay():
    assert fitted([99.0], spaces.Box(0, 1, (1,), np.float32)).tolist() == [99.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pair": ([1, 2], 4)}, r"observation\['pair'\]\[1\] is 4, outside Discrete\(3, start=1\)"),
        ({"pair": ([1, 2], 0)}, r"observation\['pair'\]\[1\] is 0, outside"),
        ({"pair": ([1, 2, 3], 1)}, r"observation\['pair'\]\[0\] has shape \(3,\), its space \(2,\)"),
        ({"pair": ([[1], [1, 2]], 1)}, r"observation\['pair'\]\[0\] is no array"),
        ({"pair": ([1, 2],)}, r"observation\['pair'\] must be a tuple of 2, but it is"),
        ({"pair": None}, r"observation\['pair'\] must be a tuple of 2, but it is None"),
        ({"pair": (["a", "b"], 1)}, r"observation\['pair'\]\[0\] has dtype <U1, its space float32"),
        ({"pair": ([1, 2], 1.5)}, r"observation\['pair'\]\[1\] has dtype float64, its space int64"),
        ({"choices": [1, 3]}, r"observation\['choices'\] is \[1, 3\], outside MultiDiscrete"),
        ({"more": 1}, r"keys \['bits', 'choices', 'pair'\]: 'more' is not in its space"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(change, message):
    with pytest.raises(ValueError, match=message):
        fitted({**GOOD, **change}, SPACE)


def test_a_missing_key_is_named():
    with pytest.raises(ValueError, match=r"'bits' is missing"):
        fitted({key: GOOD[key] for key in ("pair", "choices")}, SPACE)
    with pytest.raises(ValueError, match=r"must be a dict with keys \[.*\], but it is 3"):
        fitted(3, SPACE)


def test_whole_numbers_of_another_size_are_taken_where_they_fit():
    image = spaces.Box(0, 255, (2, 2), np.uint8)
    found = fitted([[0, 255], [1, 2]], image)
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 255], [1, 2]]
    for wrong in ([[0, 256], [1, 2]], [[-1, 0], [1, 2]]):
        with pytest.raises(ValueError, match=r"observation holds -?\d+ to \d+, which is no uint8"):
            fitted(wrong, image)
