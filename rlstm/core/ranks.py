"""Ranks: several processes that train one policy together, started by torchrun, on one machine or on several.

Every rank plays its share of the envs and computes its share of each gradient; whatever depends on all envs is gathered
first and then computed by each rank alike. A process that torchrun has not started is alone, and nothing is sent.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from rlstm.core.child_processes import terminate_with_parent
from rlstm.core.errors import RankFailure

if TYPE_CHECKING:
    from torch import Tensor

ValueT = TypeVar("ValueT")

_PATIENCE = timedelta(days=1)  # For a rank that evaluates while the others wait; a dead one is noticed at once.
_MEETING = timedelta(minutes=15)  # For machines that start at different times.


class Ranks:
    """The ranks of a run, and which one this is.

    Its methods send and receive, but for ``own``, so every rank must call them in the same order. Alone they return
    what they are given.

    Args:
        rank: From 0 on; rank 0 displays, evaluates and writes.
        count: N.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.count == 1

    def own(self, total: int) -> slice:
        """Return which of ``total`` envs, a multiple of N, are this rank's; alone it has all, however many."""
        if self.is_alone:
            return slice(None)
        size = total // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def columns(self, *tensors: Tensor) -> list[Tensor]:
        """Return tensors ``(T, B/N)`` of this rank's envs as ``(T, B)`` of all envs, in one message."""
        if self.is_alone:
            return list(tensors)
        import torch
        from torch import distributed

        own = torch.stack([tensor.to(tensors[0].dtype) for tensor in tensors])
        parts = [torch.empty_like(own) for _ in range(self.count)]
        self._send(lambda: distributed.all_gather(parts, own))
        joined = torch.cat(parts, dim=2).unbind()
        return [one.to(tensor.dtype) for one, tensor in zip(joined, tensors, strict=True)]

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor by the sum of those of all ranks, the same to the last bit on each."""
        if not self.is_alone:
            from torch import distributed

            self._send(lambda: distributed.all_reduce(tensor))

    def gather(self, value: ValueT) -> list[ValueT]:
        """Return what each rank gives, in their order."""
        if self.is_alone:
            return [value]
        if isinstance(value, (int, float)):
            return self._gather_numbers(value)
        from torch import distributed

        values: list[Any] = [None] * self.count
        self._send(lambda: distributed.all_gather_object(values, value))
        return values

    def _gather_numbers(self, value: Any) -> list[Any]:
        """Gather numbers, in float64: anything else is sent as a pickle, with its length before it."""
        import torch
        from torch import distributed

        parts = [torch.empty(1, dtype=torch.float64) for _ in range(self.count)]
        self._send(lambda: distributed.all_gather(parts, torch.tensor([value], dtype=torch.float64)))
        return [type(value)(part.item()) for part in parts]

    def share(self, value: ValueT) -> ValueT:
        """Return what rank 0 gives."""
        if self.is_alone:
            return value
        from torch import distributed

        values: list[Any] = [value]
        self._send(lambda: distributed.broadcast_object_list(values, src=0))
        shared: ValueT = values[0]
        return shared

    def any(self, flag: bool) -> bool:
        """Return whether the flag of a rank is set."""
        return any(self.gather(flag))

    def _send(self, send: Callable[[], Any]) -> None:
        try:
            send()
        except RuntimeError as error:
            raise RankFailure(
                f"Rank {self.rank} of {self.count} has lost another one, whose own error, or torchrun, says why. "
                "The last checkpoint stays."
            ) from error


ALONE = Ranks()


def torchrun_ranks() -> tuple[int, int]:
    """Return this process's rank and the number of ranks, as torchrun has set them; 0 and 1 without it."""
    count = os.environ.get("WORLD_SIZE", "1")
    return (int(os.environ["RANK"]), int(count)) if count != "1" else (0, 1)


def was_restarted() -> bool:
    """Whether torchrun has started these ranks again, since one of them died."""
    return torchrun_ranks()[1] > 1 and _num_restarts() != "0"


def _num_restarts() -> str:
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


def joined_ranks() -> Ranks:
    """Join the ranks that torchrun has started, until the process ends; without it, return ``ALONE``.

    On the CPU they talk by gloo, for tensors of a CUDA device by NCCL; each then has a device of its own.

    Raises:
        RankFailure: If the others are not met.
    """
    rank, count = torchrun_ranks()
    if count == 1:
        return ALONE
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    if distributed.is_initialized():
        return Ranks(rank, count)
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    terminate_with_parent()
    try:
        store, *_ = next(rendezvous("env://", timeout=_MEETING))
        # Of ranks that torchrun has started again, the store still has what the dead ones have written.
        store = PrefixStore(f"start {_num_restarts()}", store)
        distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)
    except RuntimeError as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise RankFailure(f"Rank {rank} of {count} has not met the others at {place}: {error}") from error
    atexit.register(distributed.destroy_process_group)
    return Ranks(rank, count)
