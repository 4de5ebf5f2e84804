"""Reinforcement learning agents that remember.

`rlstm.check_env` tells whether an env is fit for training, `rlstm.train` trains an agent into a run directory and
`rlstm.resume` goes on with it, `rlstm.train_seeds` and `rlstm.resume_seeds` do so for many seeds at a time,
`rlstm.tune` searches for settings. `rlstm.evaluate` plays episodes with what was learnt, `rlstm.load` brings it back to
act, `rlstm.record` lets it demonstrate. All else is imported from its own module, e.g. `from rlstm.cells import CELLS`.

This module is light and lazy: `import rlstm` imports no torch; the functions do so on first use.
"""

from typing import TYPE_CHECKING

from rlstm.core.threads import wait_passively
from rlstm.core.version import __version__

if TYPE_CHECKING:
    from rlstm.api.env_checks import check_env as check_env
    from rlstm.api.experiments import resume as resume
    from rlstm.api.experiments import train as train
    from rlstm.api.finished_runs import evaluate_run as evaluate
    from rlstm.api.finished_runs import load as load
    from rlstm.api.finished_runs import record as record
    from rlstm.api.seeds import resume_seeds as resume_seeds
    from rlstm.api.seeds import train_seeds as train_seeds
    from rlstm.api.tuning.tune import tune as tune

__all__ = [
    "__version__",
    "check_env",
    "evaluate",
    "load",
    "record",
    "resume",
    "resume_seeds",
    "train",
    "train_seeds",
    "tune",
]

wait_passively()  # Before torch is loaded, which reads it once.

if not TYPE_CHECKING:  # Hidden from type checkers, which would otherwise accept any attribute.

    def __getattr__(name: str) -> object:
        """Import the functions on first use."""
        if name in ("train", "resume"):
            from rlstm.api import experiments

            return getattr(experiments, name)
        if name in ("evaluate", "load", "record"):
            from rlstm.api import finished_runs

            return getattr(finished_runs, "evaluate_run" if name == "evaluate" else name)
        if name in ("train_seeds", "resume_seeds"):
            from rlstm.api import seeds

            return getattr(seeds, name)
        if name == "tune":
            from rlstm.api.tuning.tune import tune

            return tune
        if name == "check_env":
            from rlstm.api.env_checks import check_env

            return check_env
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, the lazy ones included."""
    return sorted({*globals(), *__all__})
