"""How much memory a process or a device held at most."""

import resource
from pathlib import Path

import torch

_CLEAR_PEAK = "5"
"""What resets the peak in ``/proc/self/clear_refs``."""


def forget_peak(device: torch.device) -> None:
    """Begin anew: from here on the peak is measured."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK, encoding="ascii")
    except OSError:
        return  # then the peak is that of the process's whole life


def peak_bytes(device: torch.device) -> int:
    """Return the most memory since the peak was forgotten: of the device, or of this process.

    Of a process it is everything that is resident, libraries and weights included.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
