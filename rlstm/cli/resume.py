"""``rlstm resume RUN_DIR``: go on with a run from its latest checkpoint, as if it had never stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rlstm.cli.answers import Answer
from rlstm.cli.parsing import DisplayFlags, Positional, import_first, named, parse


@dataclass(frozen=True, kw_only=True)
class ResumeFlags(DisplayFlags):
    """Go on with a run from its latest checkpoint, exactly."""

    run_dir: Annotated[Positional[str], named("RUN_DIR")]
    """Folder of the run."""

    env_import: tuple[str, ...] = ()
    """Modules to import first, beside those of the run: one that registers an env that no other process knows."""

    total_steps: int | None = None
    """The new total of environment steps, not extra. Default: the run's own."""

    num_threads: int | None = None
    """Threads of torch from here on; 0 measures which number is fastest. Default: as many as before."""

    accept_edits: bool = False
    """Take files as they are that were edited since the run wrote them: its config, its logs. They are named."""


def run(words: list[str]) -> Answer:
    """Resume the run."""
    flags = parse(ResumeFlags, words, "resume")
    import_first(flags.env_import)
    from rlstm.api.experiments import resume
    from rlstm.cli.train import training_answer

    result = resume(
        flags.run_dir,
        total_steps=flags.total_steps,
        num_threads=flags.num_threads,
        accept_edits=flags.accept_edits,
        ui=flags.ui,
        command=["rlstm", "resume", *words],
    )
    return training_answer(result)
