"""Reinforcement learning agents that remember.

`rlstm.train` trains an agent into a run directory, `rlstm.load` brings one back to act, `rlstm.record` lets it
demonstrate. Everything else is imported from its own module, e.g. `from rlstm.cells import CELLS`.

This module is light and lazy: `import rlstm` imports no torch; the functions do so on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlstm.api import train as train
    from rlstm.finished_runs import load as load
    from rlstm.finished_runs import record as record

__all__ = ["__version__", "load", "record", "train"]

__version__ = "0.1.0"  # The single source: pyproject.toml reads it from here.

if not TYPE_CHECKING:  # Hidden from type checkers, which would otherwise accept any attribute.

    def __getattr__(name: str) -> object:
        """Import the functions on first use."""
        if name == "train":
            from rlstm.api import train

            return train
        if name in ("load", "record"):
            from rlstm import finished_runs

            return getattr(finished_runs, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, the lazy ones included."""
    return sorted({*globals(), *__all__})
