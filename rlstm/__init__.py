"""Reinforcement learning agents that remember.

`rlstm.train` trains an agent into a run directory, `rlstm.load` brings one back to act. Everything else is imported
from its own module, e.g. `from rlstm.cells import CELLS`.

This module is light and lazy: `import rlstm` imports no torch; `train` and `load` do so on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlstm.api import train as train
    from rlstm.finished_runs import load as load

__all__ = ["__version__", "load", "train"]

__version__ = "0.1.0"  # The single source: pyproject.toml reads it from here.

if not TYPE_CHECKING:  # Hidden from type checkers, which would otherwise accept any attribute.

    def __getattr__(name: str) -> object:
        """Import `train` and `load` on first use."""
        if name == "train":
            from rlstm.api import train

            return train
        if name == "load":
            from rlstm.finished_runs import load

            return load
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, the lazy ones included."""
    return sorted({*globals(), *__all__})
