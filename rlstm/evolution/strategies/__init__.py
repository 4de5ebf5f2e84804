"""Strategies of evolution. Adding one is one file in this folder and one line in ``STRATEGIES``."""

from __future__ import annotations

from rlstm.evolution.strategies.base import Strategy
from rlstm.evolution.strategies.cma_es import CMAES
from rlstm.evolution.strategies.cosyne import CoSyNE
from rlstm.evolution.strategies.esp import ESP
from rlstm.evolution.strategies.open_es import OpenES
from rlstm.evolution.strategies.sep_cma_es import SepCMAES
from rlstm.evolution.strategies.snes import SNES

__all__ = ["STRATEGIES", "Strategy"]

STRATEGIES: dict[str, type[Strategy]] = {
    "snes": SNES,
    "esp": ESP,
    "cosyne": CoSyNE,
    "open-es": OpenES,
    "sep-cma-es": SepCMAES,
    "cma-es": CMAES,
}
