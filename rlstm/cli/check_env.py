"""``rlstm check-env ID``: is this env fit for training, and if not, why. The checks are in ``rlstm.api.env_checks``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Annotated, Any

from rlstm.cli.answers import Answer, UsageError
from rlstm.cli.parsing import JsonFlags, Positional, named, parse
from rlstm.cli.tables import table


@dataclass(frozen=True, kw_only=True)
class CheckEnvFlags(JsonFlags):
    """Check whether an env is fit for training: exit code 0 if it is, 1 if not."""

    env: Annotated[Positional[str], named("ID")]
    """Env id: 'rlstm/TMaze-v0', 'module:ns/Name-v0' to import a module first, with wrappers 'Name-v0+flicker=0.3'."""

    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the env; values are read as JSON."""

    env_import: tuple[str, ...] = ()
    """Modules to import first, so that they can register their envs."""

    env_wrappers: tuple[str, ...] = ()
    """Wrappers, innermost first: mask=0,2 one_hot=11 flicker=0.5 noise=0.1 delay=2 hold sticky=0.25 previous
    markovian actions=0,1,2 view=3."""

    train_steps: int = 20_000
    """Steps of a short training without memory, 5 seconds at most; 0 leaves it out."""


def run(words: list[str]) -> Answer:
    """Check the env; exit code 0 if it is fit, 1 if not."""
    flags = parse(CheckEnvFlags, words, "check-env")
    if flags.train_steps < 0:
        raise UsageError(f"--train-steps is {flags.train_steps}; it must not be negative.")
    from rlstm.api.env_checks import check_env

    found = check_env(
        flags.env,
        env_kwargs=flags.env_kwargs,
        env_import=flags.env_import,
        env_wrappers=flags.env_wrappers,
        train_steps=flags.train_steps,
        report=None if flags.json else _say_what_comes,
    )
    rows = [(one.level, one.topic, one.sentence) for one in found.findings]
    text = table(("level", "check", "finding"), rows, wrapped=("finding",))
    checks = [
        {"check": one.topic, "level": one.level, "finding": one.text, "advice": one.advice} for one in found.findings
    ]
    values = {"env": flags.env, "fit": found.fit, "verdict": found.verdict, **found.measured, "checks": checks}
    return Answer(f"{text}\n\n{flags.env}: {found.verdict}", values, exit_code=0 if found.fit else 1)


def _say_what_comes(checks: str) -> None:
    print(f"checking: {checks} ...", file=sys.stderr, flush=True)
