"""Values as JSON: each comes back as what it was, and what can't is refused by its place."""

import json
import math

import numpy as np
import pytest

from rlstm.core.tagged_json import decode, encode

VALUES = [
    None,
    True,
    3,
    -2.5,
    "text",
    math.inf,
    -math.inf,
    [1, [2, None]],
    (1, (2.5, "x")),
    {1, 2, 3},
    frozenset({"a"}),
    {"a": {"b": (1, math.inf)}},
    {0: "zero", (1, 2): [3], None: 4, 2.5: 5},
    {"__rlstm__": "float", "value": "nan"},
    [],
    {},
    (),
]


def through_json(value):
    return decode(json.loads(json.dumps(encode(value, "env_kwargs"), allow_nan=False)))


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_value_comes_back_as_what_it_was(value):
    found = through_json(value)
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_nan_comes_back():
    assert math.isnan(through_json({"x": [math.nan]})["x"][0])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.array([1.5, np.inf, np.nan], dtype=np.float32),
        np.array(True),
        np.zeros((0,), dtype=np.float64),
        np.array(["a", "bc"]),
        np.float32(0.1),
        np.int64(3),
        np.bool_(True),
    ],
    ids=repr,
)
def test_arrays_and_their_scalars_come_back_with_their_type(array):
    found = through_json({"x": array})["x"]
    assert type(found) is type(array)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("value", [1, [1.5, None], {"a": [True]}])
def test_plain_values_are_written_plainly(value):
    assert encode(value, "env_kwargs") == value


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (max, "env_kwargs is"),
        ({"f": max}, r"env_kwargs\['f'\] is <built-in"),
        ({"a": [1, dict]}, r"env_kwargs\['a'\]\[1\] is <class 'dict'>"),
        ({"a": object()}, r"a object: a run can't store it"),
        ({1: 1j}, r"env_kwargs\[1\] is 1j"),
        (np.array([None]), r"a ndarray"),
    ],
    ids=range(6),
)
def test_what_can_not_be_stored_is_named_by_its_place(value, place):
    with pytest.raises(ValueError, match=place):
        encode(value, "env_kwargs")
