"""``rlstm envs``: the environments that come with this package."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rlstm.cli.answers import Answer
from rlstm.cli.parsing import Json, parse
from rlstm.cli.tables import number, table

__all__ = ["run"]

_FOOT = """\
Returns are those of an episode: the best of any policy without memory, and the best of all.
Any other Gymnasium env works too: --env CartPole-v1, or --env my_module:My-v0 from this folder.
Try it with 'rlstm check-env ID'."""


@dataclass(frozen=True)
class EnvsFlags:
    """List the environments that come with this package."""

    json: Json = False
    """Print one JSON object on the last line of stdout."""


def run(words: list[str]) -> Answer:
    """Describe every env with its default arguments."""
    parse(EnvsFlags, words, prog="rlstm envs", description="List the environments that come with this package.")
    from rlstm.envs import ENVS

    descriptions = [row.describe() for row in ENVS.values()]
    rows = [
        (
            one.id,
            one.memory,
            number(one.memory_length, "varies"),
            number(one.memoryless_return.value),
            number(one.optimal_return.value),
            "yes" if one.supports_new_task else "no",
            one.source,
        )
        for one in descriptions
    ]
    header = ("id", "what to remember", "steps", "memoryless", "optimal", "trials", "source")
    text = table(header, rows, wrapped=("what to remember", "source"))
    return Answer(f"{text}\n\n{_FOOT}", {"envs": [dataclasses.asdict(one) for one in descriptions]})
