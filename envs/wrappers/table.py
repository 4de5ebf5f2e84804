"""The table of wrappers, `WRAPPERS`, by their names on the command line.

On the command line `--env-wrappers mask=0,2 flicker=0.3`, or in the id `CartPole-v1+mask=0,2+flicker=0.3`; the first is
the innermost. A new wrapper is one class in `views.py`, `selections.py`, `sensors.py` or `actions.py`, and one row
here.

`previous` or the policy's own `inputs.previous_action` and `inputs.previous_reward`? Take the policy's: it knows where
memory begins, so in trials they reach over the ends of episodes. Take the wrapper if the observation itself must hold
them: for a policy that isn't ours, or inside another wrapper (with `previous delay=2` they come late too).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from rlstm.envs.wrappers import actions, selections, sensors, views
from rlstm.envs.wrappers.transform import Transform


@dataclass(frozen=True)
class WrapperRow:
    """A wrapper by its name on the command line.

    Attributes:
        transform: What it does.
        parse: Turns the text after "=", or None if there is none, into the transform's arguments. ValueError says what
            it must be.
        usage: How it is written.
        effect: What it does, in a phrase.
    """

    transform: type[Transform]
    parse: Callable[[str | None], dict[str, Any]]
    usage: str
    effect: str

    entry_point: ClassVar[str] = "rlstm.envs.wrappers.adapters:TransformedEnv"
    """Of the wrapper of single environments; it names its counterpart for vector environments."""

    @property
    def transform_name(self) -> str:
        """The transform as "module:Class"."""
        return f"{self.transform.__module__}:{self.transform.__name__}"

    def read(self, text: str | None) -> dict[str, Any]:
        """Return the wrapper's arguments by the text after "=", or None if there is none."""
        return {"transform": self.transform_name, **self.parse(text)}


def _indices(what_is_needed: str) -> Callable[[str | None], dict[str, Any]]:
    def read(text: str | None) -> dict[str, Any]:
        words = (text or "").split(",")
        if not all(word.strip().isdecimal() for word in words) or len(set(map(int, words))) < len(words):
            raise ValueError(what_is_needed)
        return {"keep": [int(word) for word in words]}

    return read


def _whole(argument: str, low: int, what_is_needed: str) -> Callable[[str | None], dict[str, Any]]:
    def read(text: str | None) -> dict[str, Any]:
        if text is None or not text.strip().isdecimal() or int(text) < low:
            raise ValueError(what_is_needed)
        return {argument: int(text)}

    return read


def _nothing(name: str) -> Callable[[str | None], dict[str, Any]]:
    def read(text: str | None) -> dict[str, Any]:
        if text is not None:
            raise ValueError(f"{name} takes no value")
        return {}

    return read


def _number(name: str, argument: str, high: float, example: str, *, optional: bool) -> Callable[..., dict[str, Any]]:
    def read(text: str | None) -> dict[str, Any]:
        if text is None and optional:
            return {}
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not 0.0 <= value <= high or math.isinf(value):
            limits = f"in [0, {high:g}]" if high < math.inf else ">= 0"
            raise ValueError(f"{name} needs a number {limits}, such as {example}")
        return {argument: value}

    return read


_ENTRIES = _indices("mask needs different indices of the vector to keep, from 0 up, such as mask=0,2")
_ACTIONS = _indices("actions needs different numbers of actions to keep, such as actions=0,1,2")
_COUNT = _whole("count", 2, "one_hot needs the count of different numbers, 2 or more, such as one_hot=11")
_STEPS = _whole("steps", 1, "delay needs a whole number of steps >= 1, such as delay=2")
_SIZE = _whole("size", 3, "view needs an odd number of cells >= 3, such as view=3")
_FLICKER = _number("flicker", "probability", 1.0, "flicker=0.3", optional=True)
_NOISE = _number("noise", "std", math.inf, "noise=0.1", optional=False)
_STICKY = _number("sticky", "probability", 1.0, "sticky=0.25", optional=True)

WRAPPERS: dict[str, WrapperRow] = {
    "mask": WrapperRow(views.MaskBox, _ENTRIES, "mask=0,2", "only these entries of a vector are seen"),
    "one_hot": WrapperRow(
        views.OneHot, _COUNT, "one_hot=11", "whole numbers of a Box are seen as one-hot vectors, so many each"
    ),
    "flicker": WrapperRow(
        sensors.Flicker, _FLICKER, "flicker=0.5", "the whole observation is zero with this probability"
    ),
    "noise": WrapperRow(
        sensors.Noise, _NOISE, "noise=0.1", "Gaussian noise of this standard deviation on Box observations"
    ),
    "delay": WrapperRow(sensors.Delay, _STEPS, "delay=2", "the observation of so many steps ago is seen"),
    "hold": WrapperRow(
        sensors.Hold, _nothing("hold"), "hold", "numbers that are not finite are seen as they were last"
    ),
    "sticky": WrapperRow(
        actions.StickyAction, _STICKY, "sticky=0.25", "the last action is repeated with this probability"
    ),
    "previous": WrapperRow(
        actions.PreviousActionReward, _nothing("previous"), "previous", "the last action and reward are seen too"
    ),
    "markovian": WrapperRow(
        views.MarkovianView, _nothing("markovian"), "markovian", "the hidden state is seen instead"
    ),
    "actions": WrapperRow(
        selections.KeepActions, _ACTIONS, "actions=0,1,2", "only these actions are left, numbered in this order"
    ),
    "view": WrapperRow(
        selections.NearView, _SIZE, "view=3", "of MiniGrid's picture only so many cells ahead and across are seen"
    ),
}
"""Every wrapper, by its name on the command line."""
