"""How much memory a process or a device held at most."""

import gc
import resource
from pathlib import Path

import torch

_CLEAR_PEAK = "5"
"""What resets the peak in ``/proc/self/clear_refs``."""


def forget_peak(device: torch.device) -> None:
    """Begin anew: what nothing holds is given back, and from here on the peak is measured."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK, encoding="ascii")
    except OSError:
        return  # then the peak is that of the process's whole life


def peak_bytes(device: torch.device) -> int:
    """Return the most memory since the peak was forgotten: of the device, or of this process.

    Of a process it is everything that is resident, libraries and weights included. Of a device it is what
    tensors held, or what the allocator reserved after its unused memory was given back, if that is more: the
    intermediate values of a CUDA graph are in a pool that is reserved, and no tensor holds them.
    """
    if device.type == "cuda":
        most = torch.cuda.max_memory_allocated(device)
        torch.cuda.empty_cache()
        return max(most, torch.cuda.memory_reserved(device))
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
