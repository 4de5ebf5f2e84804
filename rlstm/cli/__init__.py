"""The command line. Each verb is one module of this folder."""

from __future__ import annotations

__all__ = ["main"]


def main() -> int:
    """Placeholder until the verbs are written."""
    return 0
