"""The stages of a curriculum, and the file in which they stand.

The file of a curriculum is TOML, one table a stage::

    [[stage]]
    env_kwargs = { corridor_length = 10 }
    success = 0.9

    [[stage]]
    env_kwargs = { corridor_length = 30 }
    mean_return = 3.5
    episodes = 200

A stage is passed once its criterion holds over the last ``episodes`` episodes that finished in it. An episode whose
info does not say ``is_success`` is no success.
"""

from __future__ import annotations

import math
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from rlstm.core.errors import unknown_name
from rlstm.core.number_text import number
from rlstm.core.ranges import AtLeast, check_ranges
from rlstm.rollouts.statistics import Outcome
from rlstm.training.config import ConfigError, coerce

_SHIPPED = Path(__file__).parent / "presets" / "curricula"  # By name.


@dataclass(frozen=True)
class Stage:
    """A stage, by the keys of its table.

    Raises:
        ValueError: If there is not one criterion, or a value makes no sense.
    """

    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the env, over those of the run; they stand alone where ``env`` is another one."""

    success: float | None = None
    """The share of successes that passes the stage."""

    mean_return: float | None = None
    """Or the mean return that does."""

    episodes: Annotated[int, AtLeast(1)] = 100
    """How many episodes are asked, the last that finished in this stage."""

    env: str | None = None
    """Id of another env with the same spaces."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.success is None) == (self.mean_return is None):
            have = "neither success nor mean_return" if self.success is None else "both success and mean_return"
            raise ValueError(f"it has {have}; give one of them.")
        if self.env is not None and "+" in self.env:
            raise ValueError(f"env is '{self.env}', but wrappers are those of the run: give the id alone.")

    @property
    def criterion(self) -> str:
        """What the stage asks for, in words."""
        asked = self.mean_return if self.success is None else self.success
        return f"{self._name} {number(asked)} over {self.episodes} episodes"

    def value(self, outcomes: Sequence[Outcome]) -> float | None:
        """Return what the criterion is about, of outcomes of this stage; None before enough episodes have finished."""
        if len(outcomes) < self.episodes:
            return None
        last = list(outcomes)[-self.episodes :]
        values = [one.episode_return if self.success is None else one.success for one in last]
        return math.fsum(value for value in values if not math.isnan(value)) / self.episodes

    def is_passed(self, outcomes: Sequence[Outcome]) -> bool:
        """Return whether the criterion holds."""
        value, asked = self.value(outcomes), self.mean_return if self.success is None else self.success
        if value is None or asked is None:
            return False
        return value >= asked or math.isclose(value, asked)  # Means of decimals are off by their last bits.

    def says_nothing(self, outcomes: Sequence[Outcome]) -> bool:
        """Return whether successes are asked for, but none of so many episodes said whether it was one."""
        return (
            self.success is not None
            and len(outcomes) >= self.episodes
            and all(math.isnan(one.success) for one in outcomes)
        )

    def told(self, outcomes: Sequence[Outcome]) -> str:
        """Return the criterion's value in words, over the episodes that there are."""
        count = min(len(outcomes), self.episodes)
        if not count:
            return "no episode finished in it"
        value = replace(self, episodes=count).value(outcomes)
        return f"{self._name} {number(value)}"

    @property
    def _name(self) -> str:
        return "mean return" if self.success is None else "success"


def read_curriculum(path: str | Path) -> tuple[str, tuple[Stage, ...]]:
    """Return the text of a curriculum's file, and its stages.

    Args:
        path: Of the file; or the name of one of those that presets use, which comes first: ``./NAME`` is a file.

    Raises:
        ConfigError: If it can't be read, or a stage makes no sense; the message names the stage.
    """
    shipped = _SHIPPED / f"{path}.toml"
    try:
        is_name = str(path) == Path(path).name and shipped.is_file()
        text = (shipped if is_name else Path(path)).read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"Can't read the curriculum {path}: {error.strerror or error}. Name its file, or restore it from a copy; "
            f"those of the presets are {', '.join(sorted(one.stem for one in _SHIPPED.glob('*.toml')))}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The curriculum {path} is not valid TOML: {error}.") from error
    for name in content.keys() - {"stage"}:
        raise ConfigError(f"The curriculum {path}: {unknown_name('table', name, ['stage'])}")
    tables = content.get("stage")
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"The curriculum {path} has no stages: begin each with a line [[stage]].")
    stages = []
    for index, table in enumerate(tables, start=1):
        try:
            stages.append(_read_stage(table))
        except ValueError as error:
            raise ConfigError(f"Stage {index} of the curriculum {path}: {error}") from error
    return text, tuple(stages)


def _read_stage(table: Any) -> Stage:
    if not isinstance(table, Mapping):
        raise ConfigError(f"it is {table!r}; it must be a table, [[stage]].")
    hints, names = typing.get_type_hints(Stage), [one.name for one in fields(Stage)]
    for name in table:
        if name not in names:
            raise unknown_name("key", name, names)
    return Stage(**{name: coerce(name, value, hints[name]) for name, value in table.items()})
