"""Where a run computes: device, threads, and the floating-point mode and the memory of the process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

import torch

_KEPT_MEMORY = 2**30
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # Of mallopt(3).
_MALLOC_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")


def prepare_process(num_threads: int = 1) -> int:
    """Set torch's threads once, flush denormals, keep freed memory; returns the number of threads.

    Decaying memories make denormal numbers, which are many times slower on CPUs. The mode is inherited by threads that
    start later, so this comes before the first computation.

    Every sequence makes buffers of many megabytes and frees them. glibc hands such memory back to the system at once,
    and to get it again page by page took a third of the time of an LSTM's forward and backward pass (T 128, B 64, H 64
    and 128). So up to 1 GiB of freed memory is kept, unless the environment says otherwise (``MALLOC_TRIM_THRESHOLD_``
    and its like). ``num_threads`` 0, where a run measures which number is fastest, stands for one until it has.
    """
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    count = max(1, num_threads)
    torch.set_num_threads(count)
    return count


def _keep_freed_memory() -> None:
    chosen = any(name in os.environ for name in _MALLOC_VARIABLES)
    if sys.platform != "linux" or chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Not every C library has it.
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_MEMORY)
        if not mallopt(_MMAP_THRESHOLD, _KEPT_MEMORY):  # Older ones refuse more than 32 MiB.
            mallopt(_MMAP_THRESHOLD, 2**25)


def choose_device(name: str) -> tuple[torch.device, str]:
    """Return the device and why it was chosen.

    Raises:
        ValueError: If there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"cuda ({torch.cuda.get_device_name()})"
        return torch.device("cpu"), "cpu (no CUDA device here)"
    device = None
    with contextlib.suppress(RuntimeError):
        device = torch.device(name)
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is '{name}'; it must be auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ValueError(f"device is '{name}', but torch sees {torch.cuda.device_count()} CUDA devices; use cpu.")
    return device, name
