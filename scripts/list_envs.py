"""Write the list of environments in envs/README.md from the registry, so that it says what the code says.

    python -m scripts.list_envs          # write it
    python -m scripts.list_envs --check  # exit with 1 if it isn't what would be written

A table for each section of `envs/base/registration.py`. The levels of a task, such as Easy, Medium and Hard, share a
row.
"""

import argparse
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rlstm.envs import ENVS, EnvDescription
from rlstm.envs.base.batched import ReturnReference
from rlstm.envs.base.registration import SECTIONS

README = Path(__file__).resolve().parents[1] / "envs" / "README.md"

LEVELS = ("Easy", "Medium", "Hard")
COLUMNS = ("environment", "what must be remembered", "for steps", "optimal return", "memoryless return", "source")

INTRODUCTION = """<!-- Written by scripts/list_envs.py from the registry; don't edit by hand. -->
# Environments

```python
import gymnasium
import rlstm.envs  # registers them

env = gymnasium.make("rlstm/TMaze-v0", corridor_length=50)
envs = gymnasium.make_vec("rlstm/TMaze-v0", num_envs=64, vectorization_mode="vector_entry_point")
```

An environment's rules, spaces, rewards and arguments stand in the docstring of its task. The tables hold for the
default arguments; `rlstm.envs.ENVS[id].describe(**arguments)` gives them for others.

- **for steps**: how many steps pass from seeing something to needing it; "varies" where there is no fixed number.
- **optimal return**: the best expected return of an episode, with a newly drawn task, that any policy can have; in
  trials that keep the task, later episodes of some can earn more.
- **memoryless return**: the best of any policy that sees the present observation only, and no clock. An agent that
  earns more remembers.
- A plain number is attained, ≤ is a bound that nothing exceeds, and – is not known, for the reason below the table.
- {Easy,Medium,Hard} are three environments; where they differ, their values are separated by strokes.
"""


def base_and_level(env_id: str) -> tuple[str, str]:
    """Return the name of an environment without namespace, version and level, and its level, if it has one."""
    name = env_id.partition("/")[2].rpartition("-")[0]
    level = next((level for level in LEVELS if name.endswith(level)), "")
    return name.removesuffix(level), level


def number(value: float) -> str:
    """Return four digits, or all of a whole number."""
    return f"{value:,.0f}" if value == round(value) else f"{value:.4g}"


def value_of(reference: ReturnReference) -> str:
    """Return a return reference as it stands in a table."""
    if reference.value is None:
        return "–"
    return number(reference.value) if reference.kind == "exact" else f"≤ {number(reference.value)}"


def joined(values: Sequence[str]) -> str:
    """Return the values of all levels, or only one if they are the same."""
    return values[0] if len(set(values)) == 1 else " / ".join(values)


def name_of(env_ids: Sequence[str]) -> str:
    """Return one id, or those of all levels of a task in one."""
    if len(env_ids) == 1:
        return f"`{env_ids[0]}`"
    namespace, version = re.split(r"/.*-", env_ids[0])
    levels = [base_and_level(env_id)[1] for env_id in env_ids]
    return f"`{namespace}/{base_and_level(env_ids[0])[0]}{{{','.join(levels)}}}-{version}`"


def table_row(group: Sequence[EnvDescription]) -> str:
    """Return the line of a task, whose descriptions at all of its levels are `group`."""
    lengths = ["varies" if one.memory_length is None else number(one.memory_length) for one in group]
    cells = [
        name_of([one.id for one in group]),
        joined([one.memory for one in group]),
        joined(lengths),
        joined([value_of(one.optimal_return) for one in group]),
        joined([value_of(one.memoryless_return) for one in group]),
        joined([one.source for one in group]),
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def reasons(groups: Sequence[Sequence[EnvDescription]]) -> list[str]:
    """Return why returns of these tasks aren't known, a line for each reason, with the tasks that it holds for."""
    holds_for: dict[tuple[str, str], dict[str, None]] = {}
    for group in groups:
        for one in group:
            for kind, reference in (("optimal", one.optimal_return), ("memoryless", one.memoryless_return)):
                if reference.kind == "unknown":
                    holds_for.setdefault((kind, reference.reason), {})[name_of([each.id for each in group])] = None
    return [f"- {kind} return of {', '.join(names)}: {reason}." for (kind, reason), names in holds_for.items()]


def write_section(title: str, descriptions: Sequence[EnvDescription]) -> str:
    """Return a heading, the table of these environments, and why some returns aren't known."""
    # Only rows with a level share a line, so that a task of the same name without one has its own.
    groups = [list(group) for _, group in groupby(descriptions, key=lambda one: _key(one.id))]
    lines = [f"## {title}", "", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [table_row(group) for group in groups]
    unknown = reasons(groups)
    return "\n".join([*lines, *(["", "Not known:", "", *unknown] if unknown else []), ""])


def _key(env_id: str) -> str:
    base, level = base_and_level(env_id)
    return base if level else env_id


def write_readme() -> str:
    """Return all of envs/README.md."""
    sections = [
        write_section(title, [ENVS[env_id].describe() for env_id in env_ids]) for title, env_ids in SECTIONS.items()
    ]
    return "\n".join([INTRODUCTION, *sections])


def main(arguments: Sequence[str] | None = None, path: Path = README) -> int:
    """Write the list or check it, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if the file is stale")
    text = write_readme()
    if not parser.parse_args(arguments).check:
        path.write_text(text, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    print(f"{path} is stale: run python -m scripts.list_envs.")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
