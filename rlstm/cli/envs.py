"""``rlstm envs``: the environments that come with this package."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rlstm.cli.answers import Answer
from rlstm.cli.parsing import JsonFlags, parse
from rlstm.cli.tables import table
from rlstm.core.number_text import Bound, number

if TYPE_CHECKING:
    from rlstm.envs.base.batched import ReturnReference

_FOOT = """\
Returns are those of an episode: the best of any policy without memory, and the best of all; ≤ where only a bound is
known. Tasks at the level Easy come at Medium and Hard too.
Any other Gymnasium env works too: --env CartPole-v1, or --env my_module:My-v0 from this folder.
Try it with 'rlstm check-env ID'."""


def run(words: list[str]) -> Answer:
    """Describe every env with its default arguments."""
    parse(JsonFlags, words, "envs", "List the environments that come with this package.")
    from rlstm.envs import ENVS

    descriptions = {env_id: row.describe() for env_id, row in ENVS.items()}
    shown = [descriptions[env_id] for env_id, row in ENVS.items() if row.level in ("", "Easy")]
    rows = [
        (
            one.id,
            one.memory,
            number(one.memory_length, "varies"),
            _value(one.memoryless_return),
            _value(one.optimal_return),
            "yes" if one.supports_new_task else "no",
            one.source,
        )
        for one in shown
    ]
    header = ("id", "what to remember", "steps", "memoryless", "optimal", "trials", "source")
    text = table(header, rows, wrapped=("what to remember", "source"))
    return Answer(f"{text}\n\n{_FOOT}", {"envs": [dataclasses.asdict(one) for one in descriptions.values()]})


def _value(reference: ReturnReference) -> str:
    return number(reference.value if reference.value is None or reference.kind == "exact" else Bound(reference.value))
