"""How values are read from the command line, and shown in the help: ``REGISTRY``, for tyro.

========================  ==========================================================
type                      accepted
========================  ==========================================================
``int``                   ``100000``, ``100_000``, ``1e5``
``X | None``              as X, and ``none``
``bool | None``           ``true``, ``false``, ``none``; the flag alone means true
``dict[str, Any]``        ``KEY=VALUE ...``; values are JSON, or plain text if they aren't
========================  ==========================================================
"""

from __future__ import annotations

import contextlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

from rlstm.cli.answers import UsageError

REGISTRY = ConstructorRegistry()
Spec = PrimitiveConstructorSpec[Any]
_BOOLS: dict[str, bool | None] = {"true": True, "false": False, "none": None}

_NOT_FINITE = ("inf", "-inf", "nan")  # As Python writes numbers that JSON calls Infinity, -Infinity and NaN.


def read_key_values(words: list[str]) -> dict[str, Any]:
    """Read words of the form KEY=VALUE; a value is JSON, or plain text if it is not.

    Raises:
        ValueError: If a word has no ``=`` or no key.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, separator, text = word.partition("=")
        if not key or not separator:
            raise ValueError(f"'{word}' is not of the form KEY=VALUE, e.g. corridor_length=50.")
        try:
            values[key] = json.loads(text)
        except json.JSONDecodeError:
            values[key] = float(text) if text in _NOT_FINITE else text
    return values


def read_checkpoint(word: str) -> Literal["latest", "best"] | int:
    """Read the value of --checkpoint.

    Raises:
        UsageError: If it is none of latest, best, and a step.
    """
    if word == "latest":
        return "latest"
    if word == "best":
        return "best"
    if not word.isdecimal():
        raise UsageError(f"'{word}' is no checkpoint: --checkpoint takes latest, best, or the step of one.")
    return int(word)


def _show_key_values(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]


def _read_integer(words: list[str]) -> int:
    with contextlib.suppress(ValueError):
        return int(words[0])
    with contextlib.suppress(ValueError):
        if (number := float(words[0])).is_integer():
            return int(number)
    raise ValueError(f"'{words[0]}' is not a whole number.")


def _read_float(words: list[str]) -> float:
    try:
        return float(words[0])
    except ValueError:
        raise ValueError(f"'{words[0]}' is not a number.") from None


def _read_optional_bool(words: list[str]) -> bool | None:
    word = words[0].lower() if words else "true"
    if word not in _BOOLS:
        raise ValueError(f"'{words[0]}' is none of true, false, none.")
    return _BOOLS[word]


@REGISTRY.primitive_rule
def _dict_rule(info: PrimitiveTypeInfo) -> Spec | None:
    if info.type_origin is not dict:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="[KEY=VALUE ...]",
        instance_from_str=read_key_values,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=_show_key_values,
    )


@REGISTRY.primitive_rule
def _number_rule(info: PrimitiveTypeInfo) -> Spec | None:
    if info.type not in (int, float):
        return None
    whole = info.type is int
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT" if whole else "FLOAT",
        instance_from_str=_read_integer if whole else _read_float,
        is_instance=lambda value: isinstance(value, int if whole else (int, float)),
        str_from_instance=lambda value: [f"{value:g}" if isinstance(value, float) else str(value)],
    )


@REGISTRY.primitive_rule
def _optional_rule(info: PrimitiveTypeInfo) -> Spec | UnsupportedTypeAnnotationError | None:
    arguments = typing.get_args(info.type)
    is_union = info.type_origin in (typing.Union, types.UnionType)
    if not is_union or len(arguments) != 2 or type(None) not in arguments:
        return None
    (inner,) = (argument for argument in arguments if argument is not type(None))
    if inner is bool:
        return PrimitiveConstructorSpec(
            nargs=(0, 1),
            metavar="{true,false,none}",
            instance_from_str=_read_optional_bool,
            is_instance=lambda value: value is None or isinstance(value, bool),
            str_from_instance=lambda value: [str(value).lower()],
        )
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(inner, info.markers))
    if isinstance(spec, UnsupportedTypeAnnotationError) or spec.nargs != 1:
        return None
    return _or_none(spec, typing.get_args(inner) if typing.get_origin(inner) is Literal else ())


def _or_none(spec: Spec, choices: tuple[str, ...]) -> Spec:
    """Extend the reader of one word by ``none``."""

    def read(words: list[str]) -> Any:
        if words[0].lower() == "none":
            return None
        if choices and words[0] not in choices:
            raise ValueError(f"'{words[0]}' is none of {', '.join(choices)}, none.")
        return spec.instance_from_str(words)

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join([*choices, "none"]) + "}" if choices else f"{spec.metavar}|none",
        instance_from_str=read,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["none"] if value is None else spec.str_from_instance(value),
    )
