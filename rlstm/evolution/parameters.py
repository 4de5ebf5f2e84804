"""Genomes: a policy's acting weights in one vector, and which of them evolve.

Encoder, memory and policy head are in it. Not in it are the critic and its head, the deviations of continuous actions,
which all policies share, and what a cell declares redundant.

Letters in shapes: P = policies, N = genes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlstm.cells.base import RecurrentCell
from rlstm.cells.residual import ResidualCell
from rlstm.core.errors import UnsupportedSpaceError
from rlstm.evolution.readouts import Readout
from rlstm.policies.policy import RecurrentPolicy


class _Gene(NamedTuple):
    """Where a parameter stands in a genome."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape)


class ParameterLayout:
    """Which of a policy's parameters are genes, and where they stand in a genome.

    Args:
        policy: The policy.
        readout: Whether the policy head is part of the genome; without it, only what is remembered evolves.
        memory: Whether encoder and cell are; without them only the readout evolves.
        biases: Whether biases are; without them they are 0, and what acts is symmetric.
        input_gain: What a gene of the first weights, those that read the inputs, is multiplied by.

    Raises:
        UnsupportedSpaceError: If an encoder has weights, as that of images: no population can share them.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        *,
        readout: bool = True,
        memory: bool = True,
        biases: bool = True,
        input_gain: float = 1.0,
    ) -> None:
        if any(True for _ in policy.actor.encoder.leaves.parameters()):
            raise UnsupportedSpaceError(
                "A population can't share an encoder with weights of its own, such as that of images, but the "
                f"observations are {policy.observation_space}. Use vectors, or train with ppo."
            )
        redundant = set(policy.actor.cell.redundant_parameters)
        parts: dict[str, nn.Module] = {}
        if memory:
            parts |= {"actor.encoder": policy.actor.encoder, "actor.cell": policy.actor.cell}
        if readout:
            parts["policy_head"] = policy.policy_head
        self.readout = readout
        self.genes: list[_Gene] = []
        self.zeros: dict[str, tuple[int, ...]] = {}  # Parameters without genes.
        self.num_genes = 0
        for prefix, module in parts.items():
            for name, parameter in module.named_parameters():
                if prefix == "actor.cell" and name in redundant:
                    continue
                if not biases and "bias" in name:
                    self.zeros[f"{prefix}.{name}"] = tuple(parameter.shape)
                    continue
                self.genes.append(_Gene(f"{prefix}.{name}", tuple(parameter.shape), self.num_genes))
                self.num_genes += parameter.numel()

        self._gains = torch.ones(self.num_genes, dtype=torch.float64)
        if memory:
            self._gains[: self.genes[0].stop] = input_gain

    def read(self, policy: RecurrentPolicy) -> Tensor:
        """Return the genome ``(N,)`` of a policy, float64 on the host; what is redundant is added where it belongs."""
        parameters = {name: value.detach().double() for name, value in policy.named_parameters()}
        for name, other in policy.actor.cell.redundant_parameters.items():
            parameters[f"actor.cell.{other}"] = parameters[f"actor.cell.{other}"] + parameters[f"actor.cell.{name}"]
        return torch.cat([parameters[gene.name].flatten().cpu() for gene in self.genes]) / self._gains

    @torch.no_grad()
    def write(self, policy: RecurrentPolicy, genome: Tensor) -> None:
        """Give a policy the weights of a genome ``(N,)``; redundant parameters become 0."""
        self._check(genome.unsqueeze(0))
        genome = genome * self._gains.to(genome)
        parameters = dict(policy.named_parameters())
        for gene in self.genes:
            parameters[gene.name].copy_(genome[gene.start : gene.stop].view(gene.shape))
        for name in (*(f"actor.cell.{one}" for one in policy.actor.cell.redundant_parameters), *self.zeros):
            parameters[name].zero_()

    def split(self, genomes: Tensor) -> dict[str, Tensor]:
        """Return the parameters of genomes ``(P, N)`` by name, ``(P, ...)``.

        Raises:
            ValueError: If the genomes have another length.
        """
        self._check(genomes)
        genomes = genomes * self._gains.to(genomes)
        parts = {gene.name: genomes[:, gene.start : gene.stop].unflatten(1, gene.shape) for gene in self.genes}
        return parts | {name: genomes.new_zeros(len(genomes), *shape) for name, shape in self.zeros.items()}

    def _check(self, genomes: Tensor) -> None:
        if genomes.dim() != 2 or genomes.shape[1] != self.num_genes:
            raise ValueError(
                f"Genomes of the shape {tuple(genomes.shape)} were given; here one has {self.num_genes} genes."
            )

    def groups(self, policy: RecurrentPolicy) -> Tensor:
        """Return the subpopulation of every gene, ``(N,)``: one for each unit, and one for the readout's biases.

        A memory cell has all that enters it and, if the readout evolves, its outgoing weights: Gomez & Schmidhuber
        2005. Units of the encoder and of the head's inner layers have what enters them.
        """
        groups: dict[tuple[object, ...], int] = {}
        labels = []
        for gene in self.genes:
            keys = _units(gene, policy)
            labels.append(torch.tensor([groups.setdefault(key, len(groups)) for key in keys]))
        return torch.cat(labels)


class EvolvedParameters:
    """What of a policy evolves, and how that becomes all its acting weights.

    Args:
        policy: Its present weights are those that don't evolve.
        evolved: The layout of what evolves.
    """

    def __init__(self, policy: RecurrentPolicy, evolved: ParameterLayout) -> None:
        self.evolved, self.whole = evolved, ParameterLayout(policy)
        self._head = f"policy_head.{len(policy.policy_head) - 1}"
        self._weights = dict(policy.named_parameters())

    def complete(self, genomes: Tensor, readouts: Readout | None) -> Tensor:
        """Return all acting weights ``(P, N)``; what is not finite in a readout is 0.

        Args:
            genomes: Of what evolves.
            readouts: Where the readout doesn't evolve.
        """
        count = len(genomes)
        parts = self.evolved.split(genomes)
        if readouts is not None:
            parts[f"{self._head}.weight"] = readouts.weight.transpose(1, 2).nan_to_num(0.0).cpu()
            parts[f"{self._head}.bias"] = readouts.bias.squeeze(1).nan_to_num(0.0).cpu()
        for gene in self.whole.genes:
            if gene.name not in parts:
                fixed = self._weights[gene.name].detach().double().cpu()
                parts[gene.name] = fixed.expand(count, *fixed.shape)
        return torch.cat([parts[gene.name].reshape(count, -1) for gene in self.whole.genes], 1)

    def untrained(self, genomes: Tensor) -> Tensor:
        """Return all acting weights ``(P, N)`` with readouts of 0: actions sampled from them explore."""
        (outputs, features) = next(gene.shape for gene in self.whole.genes if gene.name == f"{self._head}.weight")
        zeros = torch.zeros(len(genomes), features + 1, outputs, dtype=torch.float64)
        return self.complete(genomes, Readout(zeros[:, 1:], zeros[:, :1], torch.full((len(genomes),), torch.nan)))


def _units(gene: _Gene, policy: RecurrentPolicy) -> list[tuple[object, ...]]:
    """Return, for every number of a parameter, the unit that it belongs to."""
    module, _, parameter = gene.name.rpartition(".")
    top = f"actor.cell.layers.{policy.config.num_layers - 1}" if policy.config.num_layers > 1 else "actor.cell"
    rows, width = gene.shape[0], math.prod(gene.shape[1:])
    if module.startswith("actor.cell"):
        cell, path = _owner(policy, module)
        units = cell.units_of_rows(gene.name.removeprefix(f"{path}."))
        layer = ".".join(module.split(".")[:4]) if ".layers." in module else "actor.cell"
        return [(layer, unit) for unit in units for _ in range(width)]  # What a layer wraps belongs to it.
    if module == f"policy_head.{len(policy.policy_head) - 1}":
        if parameter == "bias":
            return [(module, "bias")] * rows
        if len(policy.policy_head) == 1:
            cell, _ = _owner(policy, f"{top}.cell" if _is_residual(policy, top) else top)
            return [(top, unit) for _ in range(rows) for unit in cell.units_of_outputs()]
        return [(f"policy_head.{len(policy.policy_head) - 3}", i) for _ in range(rows) for i in range(width)]
    return [(module, row) for row in range(rows) for _ in range(width)]


def _owner(policy: RecurrentPolicy, path: str) -> tuple[RecurrentCell, str]:
    """Return the cell that a module is or is part of, and its path."""
    module = policy.get_submodule(path)
    return (module, path) if isinstance(module, RecurrentCell) else _owner(policy, path.rpartition(".")[0])


def _is_residual(policy: RecurrentPolicy, path: str) -> bool:
    return isinstance(policy.get_submodule(path), ResidualCell)
