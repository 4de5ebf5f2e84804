"""Claims about `rlstm.core.errors`: an unknown name is answered with the nearest one."""

from __future__ import annotations

import pytest

from rlstm.core.errors import EnvironmentFailure, NonFiniteError, UnknownNameError, UnsupportedSpaceError, unknown_name

NAMES = ["lstm", "gru", "elman", "none"]


def test_the_nearest_name_comes_first_and_then_all_in_order() -> None:
    error = unknown_name("cell", "lsmt", NAMES)
    assert isinstance(error, UnknownNameError)
    assert str(error) == "Unknown cell 'lsmt'. Did you mean 'lstm'? Valid: elman, gru, lstm, none."


def test_a_name_like_no_other_gets_the_list_alone() -> None:
    assert str(unknown_name("preset", "xyzzy", NAMES)) == "Unknown preset 'xyzzy'. Valid: elman, gru, lstm, none."


def test_a_long_list_does_not_hide_the_nearest_name() -> None:
    names = [f"setting_{index}" for index in range(100)]
    assert str(unknown_name("setting", "seting_7", names)) == "Unknown setting 'seting_7'. Did you mean 'setting_7'?"
    assert "setting_99" in str(unknown_name("setting", "xyzzy", names))


def test_names_may_be_any_iterable() -> None:
    assert "Valid: a, b." in str(unknown_name("agent", "zzz", iter({"b": 1, "a": 2})))


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (UnknownNameError, ValueError),
        (UnsupportedSpaceError, ValueError),
        (EnvironmentFailure, RuntimeError),
        (NonFiniteError, RuntimeError),
    ],
)
def test_wrong_usage_is_a_value_error_and_a_failure_a_runtime_error(kind: type[Exception], base: type) -> None:
    assert issubclass(kind, base)
