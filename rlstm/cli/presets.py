"""``rlstm presets``: settings found for a task, by name."""

from __future__ import annotations

from rlstm.cli.answers import Answer
from rlstm.cli.parsing import JsonFlags, parse
from rlstm.cli.tables import table
from rlstm.core.number_text import number


def run(words: list[str]) -> Answer:
    """List every preset."""
    parse(JsonFlags, words, "presets", "List the presets for --preset.")
    from rlstm.training.presets import PRESETS

    rows = [
        (name, one.agent, one.settings["env"], number(one.settings.get("total_steps"), "-"), one.description)
        for name, one in PRESETS.items()
    ]
    text = table(("preset", "agent", "env", "steps", "what it is"), rows, wrapped=("what it is",))
    foot = "Use: rlstm train AGENT --preset NAME [FLAGS]. Its settings: rlstm train AGENT --preset NAME --help."
    values = {
        name: {"agent": one.agent, "description": one.description, "settings": dict(one.settings)}
        for name, one in PRESETS.items()
    }
    return Answer(f"{text}\n\n{foot}", {"presets": values})
