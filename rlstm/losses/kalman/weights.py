"""Which weights the filter trains, in which order and in which groups."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rlstm.cells import RecurrentCell
from rlstm.cells.xlstm import XLSTMCell
from rlstm.losses.kalman.covariance import Floats
from rlstm.losses.kalman.settings import Groups
from rlstm.policies.policy import RecurrentPolicy

ACTOR, HEAD = "actor", "policy_head"


class TrainedWeights:
    """The weights on which the policy head's outputs depend, as one vector ``(N,)``.

    They are those of encoder, memory and policy head in the order of ``named_parameters``, each row by row. The value
    head, a critic's own memory and a Gaussian's deviations are none of them, nor is a second bias that is only ever
    added to another one (``bias_hh`` of an LSTM): it stays as it is.

    Their groups, where each unit is one: all that enters a unit of the memory (its rows of every gate's W, R and b, its
    peepholes); for encoder and head each row of a layer with its bias, so that each output of the head is a group. An
    xLSTM, whose blocks have layers of their own, is grouped like an encoder.
    """

    def __init__(self, policy: RecurrentPolicy) -> None:
        left_out = {f"{ACTOR}.cell.{name}" for name in policy.actor.cell.redundant_parameters}
        self._policy = policy
        self.parameters: dict[str, nn.Parameter] = {
            name: parameter
            for name, parameter in policy.named_parameters()
            if name.partition(".")[0] in (ACTOR, HEAD) and name not in left_out
        }
        self._sizes = [parameter.numel() for parameter in self.parameters.values()]
        self._starts: dict[str, int] = dict(
            zip(self.parameters, np.cumsum([0, *self._sizes[:-1]]).tolist(), strict=True)
        )

    @property
    def count(self) -> int:
        """N."""
        return sum(self._sizes)

    @property
    def of_memory(self) -> slice:
        """The place of the weights of encoder and memory, which come before those of the head."""
        is_actor = [name.partition(".")[0] == ACTOR for name in self.parameters]
        return slice(0, sum(size for size, own in zip(self._sizes, is_actor, strict=True) if own))

    def read(self) -> Floats:
        """Return a copy, ``(N,)``."""
        parts = [parameter.detach().reshape(-1) for parameter in self.parameters.values()]
        vector: Floats = torch.cat(parts).numpy().copy()
        return vector

    @torch.no_grad()
    def write(self, weights: Floats) -> None:
        """Write ``(N,)`` into the policy."""
        for parameter, part in zip(
            self.parameters.values(), self.split(torch.as_tensor(weights)).values(), strict=True
        ):
            parameter.copy_(part)

    def split(self, weights: Tensor) -> dict[str, Tensor]:
        """Return the parts of ``(N,)`` by name, in their shapes."""
        parts = weights.split(self._sizes)
        return {name: part.view_as(one) for (name, one), part in zip(self.parameters.items(), parts, strict=True)}

    def numbers(self, name: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the weights of a parameter, in its shape."""
        parameter = self.parameters[name]
        start = self._starts[name]
        return np.arange(start, start + parameter.numel(), dtype=np.int64).reshape(tuple(parameter.shape))

    def groups(self, kind: Groups) -> list[npt.NDArray[np.int64]]:
        """Return the numbers of the weights of each group."""
        if kind == "all":
            return [np.arange(self.count)]
        members: dict[tuple[str, int], list[int]] = {}
        for name in self.parameters:
            rows = self.numbers(name)
            for unit, row in zip(self._units(name), rows.reshape(max(1, len(np.atleast_1d(rows))), -1), strict=True):
                members.setdefault(unit, []).extend(row.tolist())
        return [np.array(group) for group in members.values()]

    def _units(self, name: str) -> list[tuple[str, int]]:
        """Return the unit that each row of a parameter enters, by the module that has it and a number."""
        module = owner = name.rpartition(".")[0]
        while owner.startswith(f"{ACTOR}.cell"):
            cell = self._policy.get_submodule(owner)
            if isinstance(cell, RecurrentCell) and not isinstance(cell, XLSTMCell):
                return [(owner, unit) for unit in cell.units_of_rows(name.removeprefix(f"{owner}."))]
            owner = owner.rpartition(".")[0]
        parameter = self.parameters[name]
        return [(module, row) for row in range(len(parameter) if parameter.dim() else 1)]
