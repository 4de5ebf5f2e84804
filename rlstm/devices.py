"""Where a run computes: device, threads, and the floating-point mode of the process."""

from __future__ import annotations

import os

import torch

__all__ = ["choose_device", "prepare_process"]

_MAX_THREADS = 4  # A recurrent policy of usual size gains nothing from more.


def prepare_process(num_threads: int) -> int:
    """Set torch's threads once and flush denormals; returns the number of threads.

    Decaying memories make denormal numbers, which are many times slower on CPUs. The mode is inherited by threads that
    start later, so this comes before the first computation.

    Args:
        num_threads: 0 for as many as there are cores, 4 at most.
    """
    torch.set_flush_denormal(True)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = num_threads or min(available, _MAX_THREADS)
    torch.set_num_threads(count)
    return count


def choose_device(name: str) -> tuple[torch.device, str]:
    """Return the device and why it was chosen.

    Raises:
        ValueError: If there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"cuda ({torch.cuda.get_device_name()})"
        return torch.device("cpu"), "cpu (no CUDA device here)"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device is '{name}'; it must be auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ValueError(f"device is '{name}', but torch sees {torch.cuda.device_count()} CUDA devices; use cpu.")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is '{name}'; it must be auto, cpu, cuda or cuda:N.")
    return device, name
