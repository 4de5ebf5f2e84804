"""``rlstm card RUN_DIR``: the model card of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from rlstm.cli.answers import Answer
from rlstm.cli.parsing import Json, JsonFlags, Positional, import_first, named, parse
from rlstm.cli.tables import facts
from rlstm.core.number_text import number


@dataclass(frozen=True, kw_only=True)
class CardFlags(JsonFlags):
    """Write the run's README.md, a model card: what it is, how to load it, how good it is with and without memory."""

    run_dir: Annotated[Positional[str], tyro.conf.arg(metavar="RUN_DIR")]
    """Folder of the run."""

    episodes: int = 100
    """Episodes of each of the two evaluations."""

    seed: int = 0
    """Decides the episodes."""

    licence: Annotated[str | None, named("ID")] = None
    """Licence of the weights, as model hubs name it: mit, apache-2.0. Default: none is named."""

    env_import: tuple[str, ...] = ()
    """Modules to import first: those that the run names, which are not imported by themselves, and others."""

    trust: Json = False
    """Import the modules that the run names, and take its env from the entry points that it names: runs their code."""

    force: Json = False
    """Write over a README.md that somebody else wrote."""


def run(words: list[str]) -> Answer:
    """Evaluate, and write the card."""
    flags = parse(CardFlags, words, "card")
    import_first(flags.env_import)
    from rlstm.api.cards import write_card

    options = {name: getattr(flags, name) for name in ("episodes", "seed", "licence", "force", "trust")}
    path, found = write_card(flags.run_dir, **options)
    lines = {
        "return": f"{number(found['mean_return'])} ± {number(found['std_return'])}",
        "without memory": number(found["mean_return_without_memory"]),
        "card": str(path),
    }
    return Answer(facts(lines), {**found, "card": str(path)})
