"""``rlstm resume RUN_DIR``: go on with a run, or with all seeds of a folder, as if they had never stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from rlstm.cli.answers import Answer, UsageError
from rlstm.cli.parsing import DisplayFlags, Json, Positional, import_first, named, parse


@dataclass(frozen=True, kw_only=True)
class ResumeFlags(DisplayFlags):
    """Go on with a run from its latest checkpoint, exactly."""

    run_dir: Annotated[Positional[str], named("RUN_DIR")]
    """Folder of the run, or of the runs of several seeds: each that is not complete goes on."""

    env_import: tuple[str, ...] = ()
    """Modules to import first: those that the run names, which are not imported by themselves, and others."""

    trust: Json = False
    """Import the modules that the run names, and take its env from the entry points that it names: runs their code."""

    total_steps: int | None = None
    """The new total of environment steps, not extra. Default: the run's own."""

    num_threads: int | None = None
    """Threads of torch from here on; 0 measures which number is fastest. Default: as many as before."""

    accept_edits: bool = False
    """Take files as they are that were edited since the run wrote them: its config, its logs. They are named."""
    jobs: int | None = None
    """Of several seeds, those that are trained at a time. Default: as many as there are cores, for their threads."""


def run(words: list[str]) -> Answer:
    """Resume the run."""
    flags = parse(ResumeFlags, words, "resume")
    import_first(flags.env_import)
    from rlstm.training.seeds_folder import is_seeds_folder

    if is_seeds_folder(flags.run_dir):
        return _resume_seeds(flags)
    if flags.jobs is not None:
        raise UsageError(f"--jobs is {flags.jobs}, but {flags.run_dir} is no folder of several seeds: leave it out.")
    from rlstm.api.experiments import resume
    from rlstm.cli.train import training_answer

    result = resume(
        flags.run_dir,
        total_steps=flags.total_steps,
        num_threads=flags.num_threads,
        accept_edits=flags.accept_edits,
        trust=flags.trust,
        ui=flags.ui,
        command=["rlstm", "resume", *words],
    )
    return training_answer(result)


def _resume_seeds(flags: ResumeFlags) -> Answer:
    from rlstm.api.seeds import resume_seeds
    from rlstm.cli.seeds_answers import seeds_answer

    given: dict[str, Any] = {"total_steps": flags.total_steps, "num_threads": flags.num_threads, "jobs": flags.jobs}
    return seeds_answer(
        resume_seeds(flags.run_dir, ui=flags.ui, env_import=flags.env_import, trust=flags.trust, **given)
    )
