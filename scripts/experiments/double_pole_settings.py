"""List the strategies' settings for double pole balancing, and what others have published.

The settings were chosen by hand, strategy by strategy, on seeds from 1000 on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FITNESSES", "PUBLISHED", "SETTINGS", "Published", "Setting"]

FITNESSES = ("damping", "standard")


@dataclass(frozen=True)
class Setting:
    """A network, and a strategy that finds its weights."""

    options: Mapping[str, Any]
    """Arguments of the strategy."""

    patience: int | None = None
    """Generations without progress after which it begins anew; never, if ``None``."""

    cell: str = "elman"
    """Memory cell."""

    hidden_size: int = 1
    """Its width."""

    @property
    def network(self) -> str:
        """The network in words."""
        return f"{self.cell}, {self.hidden_size} hidden"

    def describe(self) -> str:
        """Return the rest in words."""
        words = [f"{name} {value}" for name, value in self.options.items()]
        return ", ".join(words if self.patience is None else [*words, f"patience {self.patience}"])


@dataclass(frozen=True)
class Published:
    """A result of others."""

    name: str
    mean: int
    source: str
    network: str = ""
    median: str = ""
    most: str = ""
    solved: str = ""


GOMEZ, IGEL = "Gomez, Schmidhuber & Miikkulainen 2008", "Igel 2003"

DAMPING = {
    "snes": Setting({"population": 16, "sigma": 2.0, "least_sigma": 0.5}, patience=30),
    "esp": Setting({"population": 16, "sigma": 4.0, "mutation_scale": 0.5, "burst_after": 5}, patience=20),
    "cosyne": Setting({"population": 32, "sigma": 6.0, "mutation_scale": 1.0, "mutation_rate": 0.5}, patience=30),
    "open-es": Setting({"population": 16, "sigma": 1.0, "learning_rate": 0.5}, patience=30),
    "sep-cma-es": Setting({"sigma": 1.0, "least_sigma": 0.3}, patience=30),
    "cma-es": Setting({"sigma": 1.0, "least_sigma": 0.3}, patience=30),
}

SETTINGS: dict[str, dict[str, Setting]] = {"damping": DAMPING, "standard": DAMPING}
"""By fitness and strategy."""

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "damping": (
        Published("CoSyNE", 3416, GOMEZ),
        Published("CMA-ES", 6061, IGEL, "fully recurrent, 3 hidden"),
        Published("NEAT", 6929, GOMEZ),
        Published("ESP", 26342, GOMEZ),
        Published("CMA-ES", 3043, "genoxide 2025", "elman, 3 hidden", "2,405", "9,698", "100 of 100"),
    ),
    "standard": (
        Published("CoSyNE", 1249, GOMEZ),
        Published("CMA-ES", 3521, IGEL),
        Published("ESP", 7374, GOMEZ),
    ),
}
"""By fitness."""
