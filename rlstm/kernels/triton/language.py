"""Triton where it is installed; elsewhere its kernels can be imported, and are refused before they run."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


class _NotInstalled:
    """Decorates kernels that can't run here: see ``rlstm.kernels.triton.support.why_not_here``."""

    def jit(self, kernel: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Return the kernel as it is."""
        return kernel if kernel is not None else self.jit


def _load(name: str, otherwise: Any) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        return otherwise


triton = _load("triton", _NotInstalled())
tl = _load("triton.language", None)
