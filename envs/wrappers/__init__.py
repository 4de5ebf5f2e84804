"""Wrappers that make memory needed, or needless; ``WRAPPERS`` is the table of what there is."""

from rlstm.envs.wrappers.single import WRAPPERS

__all__ = ["WRAPPERS"]
