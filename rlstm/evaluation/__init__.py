"""How good an actor is, and complete episodes recorded as demonstrations."""

from rlstm.evaluation.demonstrations import Demonstrations

__all__ = ["Demonstrations"]
