"""``rlstm resume RUN_DIR``: go on with a run, or with all seeds of a folder, as if they had never stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rlstm.cli.answers import Answer, UsageError
from rlstm.cli.parsing import DisplayFlags, Positional, import_first, named, parse


@dataclass(frozen=True, kw_only=True)
class ResumeFlags(DisplayFlags):
    """Go on with a run from its latest checkpoint, exactly."""

    run_dir: Annotated[Positional[str], named("RUN_DIR")]
    """Folder of the run, or of the runs of several seeds: each that is not complete goes on."""

    env_import: tuple[str, ...] = ()
    """Modules to import first, beside those of the run: one that registers an env that no other process knows."""

    total_steps: int | None = None
    """The new total of environment steps, not extra. Default: the run's own."""

    num_threads: int | None = None
    """Threads of torch from here on; 0 measures which number is fastest. Default: as many as before."""

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

    command = ["rlstm", "resume", *words]
    steps, threads = flags.total_steps, flags.num_threads
    return training_answer(resume(flags.run_dir, total_steps=steps, num_threads=threads, ui=flags.ui, command=command))


def _resume_seeds(flags: ResumeFlags) -> Answer:
    from rlstm.api.seeds import resume_seeds
    from rlstm.cli.seeds_answers import seeds_answer

    given = {"total_steps": flags.total_steps, "num_threads": flags.num_threads, "jobs": flags.jobs}
    return seeds_answer(resume_seeds(flags.run_dir, ui=flags.ui, **given))
