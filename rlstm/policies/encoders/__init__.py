"""Encoders of parts of an observation. Adding one is one file in this folder and one line in ``ENCODERS``.

One of your own needs no change here: ``ENCODERS["mine"] = MyEncoder`` in a module that ``--env-import`` names.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from gymnasium import spaces

from rlstm.core.errors import UnsupportedSpaceError, unknown_name
from rlstm.core.options import check_options
from rlstm.policies.encoders.base import Encoder
from rlstm.policies.encoders.cnn import CNNEncoder
from rlstm.policies.encoders.images import ImageFormat, ImageLayout
from rlstm.policies.encoders.impala import IMPALAEncoder
from rlstm.policies.encoders.numbers import NumbersEncoder
from rlstm.policies.encoders.symbols import EmbeddingEncoder, OneHotEncoder

__all__ = ["ENCODERS", "Encoder", "ImageFormat", "ImageLayout", "make_encoders"]

ENCODERS: dict[str, type[Encoder]] = {
    "mlp": NumbersEncoder,
    "one_hot": OneHotEncoder,
    "embedding": EmbeddingEncoder,
    "cnn": CNNEncoder,
    "impala": IMPALAEncoder,
}

AUTO = "auto"
"""No encoder is named: every part is read by the first of the default ones that can."""

_DEFAULTS = ("cnn", "one_hot", "mlp")
_SUPPORTED = "Box (vectors, images), Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these, nested"

Path = tuple[Any, ...]
"""Keys and indices from a whole observation to a part of it."""


def make_encoders(
    space: spaces.Space[Any], name: str, options: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[tuple[Path, spaces.Space[Any], Encoder]]:
    """Make the encoders of all parts of an observation.

    From the whole observation down, the encoder called ``name`` reads every part that it can; what is left is read by
    the default ones: images by ``cnn``, symbols by ``one_hot``, numbers by ``mlp``.

    Args:
        space: Of the observation.
        name: A key of ``ENCODERS``, or ``auto``.
        options: Of the encoder called ``name``.
        settings: Arguments that encoders take if their constructors have them.

    Returns:
        Place, space and encoder of each part.

    Raises:
        UnsupportedSpaceError: If a part can't be read, naming it and what can.
        ValueError: If the name is unknown, nothing is there for it to read, or it has no such option.
    """
    if name == AUTO:
        if options:
            raise ValueError(f"encoder_kwargs is {dict(options)}, but encoder is auto: name the one that takes them.")
        return list(_walk(space, (), None, {}, settings))
    if name not in ENCODERS:
        raise unknown_name("encoder", name, (AUTO, *ENCODERS))
    chosen = ENCODERS[name]
    check_options("encoder", name, chosen, options, ("space", *settings))
    made = list(_walk(space, (), chosen, options, settings))
    if not any(type(encoder) is chosen for _, _, encoder in made):
        raise UnsupportedSpaceError(f"The encoder '{name}' can read no part of {space}: use another one, or auto.")
    return made


def _walk(
    space: spaces.Space[Any],
    path: Path,
    chosen: type[Encoder] | None,
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Iterator[tuple[Path, spaces.Space[Any], Encoder]]:
    if chosen is not None and chosen.reads(space):
        yield path, space, chosen(space, **_taken(chosen, settings), **options)
        return
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in parts:
            yield from _walk(part, (*path, key), chosen, options, settings)
        return
    for default in (ENCODERS[one] for one in _DEFAULTS):
        if default.reads(space):
            yield path, space, default(space, **_taken(default, settings))
            return
    place = f" at {'/'.join(map(str, path))}" if path else ""
    raise UnsupportedSpaceError(f"Observation space {space}{place} is not supported. Supported: {_SUPPORTED}.")


def _taken(made: type[Encoder], settings: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(made.__init__).parameters
    return {name: value for name, value in settings.items() if name in parameters}
