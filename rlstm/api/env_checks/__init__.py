"""Is an env fit for training, and if not, why: ``check_env``, and the checks behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlstm.api.env_checks.findings import Finding, Report
from rlstm.api.envs import resolve_env
from rlstm.vector.config import EnvConfig

TRAIN_STEPS = 20_000

__all__ = ["EnvReport", "Finding", "check_env"]


@dataclass(frozen=True)
class EnvReport:
    """What was found about an env; as text, a line a check."""

    env: str
    findings: tuple[Finding, ...]
    measured: dict[str, Any]
    """Numbers for programs (steps_per_second, exact_resume, random_return and others), None where not known."""

    @property
    def fit(self) -> bool:
        """Whether the env can be trained on."""
        return all(one.level != "unfit" for one in self.findings)

    @property
    def verdict(self) -> str:
        """Whether it is fit, and what deserves a look."""
        if not self.fit:
            return f"not fit: {' '.join(f'{one.text} {one.advice}'.strip() for one in self._of('unfit'))}"
        remarks = [one.advice or one.text for one in self._of("remark")]
        return f"fit with remarks: {' '.join(remarks)}" if remarks else "fit"

    def _of(self, level: str) -> list[Finding]:
        return [one for one in self.findings if one.level == level]

    def __str__(self) -> str:
        """Return a line a check, and the verdict."""
        lines = [f"{one.level:8}{one.topic:13}{one.sentence}" for one in self.findings]
        return "\n".join([*lines, f"{self.env}: {self.verdict}"])


def check_env(
    env: str,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    env_import: Sequence[str] = (),
    env_wrappers: Sequence[str] = (),
    train_steps: int = TRAIN_STEPS,
    report: Report | None = None,
) -> EnvReport:
    """Check whether an env is fit for training.

    Args:
        env: Its id, as ``--env`` takes it.
        env_kwargs: Its arguments.
        env_import: Modules to import first, so that they can register their envs.
        env_wrappers: As ``--env-wrappers`` takes them, innermost first.
        train_steps: Environment steps of a short training without memory, 5 seconds at most; 0 leaves it out.
        report: Is told which checks come next.

    Raises:
        UnknownNameError: If there is no such env or wrapper.
        EnvironmentFailure: If a module fails to import.
        ValueError: If ``train_steps`` is negative.
    """
    if train_steps < 0:
        raise ValueError(f"train_steps is {train_steps}; it must not be negative.")
    config = EnvConfig(
        env=env, env_kwargs=dict(env_kwargs or {}), env_import=tuple(env_import), env_wrappers=tuple(env_wrappers)
    )
    spec = resolve_env(config)  # Before torch is imported, so that a wrong id is told at once.
    report = report or (lambda checks: None)
    report("imports")
    from rlstm.api.env_checks.checks import find
    from rlstm.core.process import prepare_process

    prepare_process()  # Its networks are small: threads would wait for each other longer than they work.
    findings, measured = find(spec, config, train_steps, report)
    return EnvReport(env, tuple(findings), measured)
