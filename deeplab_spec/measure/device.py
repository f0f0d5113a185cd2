"""What is measured of a device: the time of a call, the clock, the peak of memory, and its ceilings.

The ceilings are the most operations and bytes per second that the device reached here. That of arithmetic is
the fastest of several ways to multiply two matrices, because a library that convolves well may multiply badly;
that of memory is the fastest copy.
"""

import gc
import platform
import re
import resource
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Final

import torch
from torch.nn import functional

from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.measure.statistics import CeilingsModel
from deeplab_spec.precision import FLOAT32, TF32, Precision

_SPINS: Final = 100_000
_ROUNDS: Final = 6
_SIDE: Final = {"cpu": 1536, "cuda": 8192}
"""Rows and columns of the matrices: enough that arithmetic, not memory, is the limit."""
_COPIED: Final = {"cpu": 2**28, "cuda": 2**31}
"""Bytes that are copied: more than any cache has."""
_CLEAR_PEAK: Final = "5"
"""The command that resets the peak, for ``/proc/self/clear_refs``."""

WARM_UP: Final = {"cpu": 1, "cuda": 3}
"""Untimed runs directly before a timed one: an idle GPU lowers its clock, and other processes fill the caches."""


def timed_warm(work: Callable[[], object], device: torch.device, samples: int = 1) -> float:
    """Return how long a call takes, in seconds, after untimed calls: the median of some."""
    for _ in range(WARM_UP[device.type]):
        work()
    return statistics.median(timed(work, device) for _ in range(samples))


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return how long a call takes, in seconds: by events on a GPU, else by the clock."""
    if device.type != "cuda":
        start = perf_counter()
        work()
        return perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # as torch writes it
    torch.cuda.synchronize(device)
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize(device)
    milliseconds: float = begin.elapsed_time(end)
    return milliseconds / 1000


def spin_seconds() -> float:
    """Return how long a loop of a fixed length takes: it grows when the clock falls or a core is shared."""
    start = perf_counter()
    for _ in range(_SPINS):
        pass
    return perf_counter() - start


def megahertz(device: torch.device) -> float | None:
    """Read the clock, in MHz: of the GPU, or the mean over the processor's cores; None if it cannot be read."""
    if device.type == "cuda":
        try:
            return float(torch.cuda.clock_rate(device))
        except Exception:  # noqa: BLE001 - NVML has exceptions of its own, and an unknown clock is no failure
            return None
    cores = re.findall(r"^cpu MHz\s*: ([\d.]+)", _cpuinfo(), re.MULTILINE)
    return statistics.fmean(map(float, cores)) if cores else None


def device_name(device: torch.device) -> str:
    """Return the model of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = re.search(r"^model name\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    return model.group(1).strip() if model else platform.processor() or platform.machine()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def reset_peak(device: torch.device) -> None:
    """Free unused memory, and measure the peak from here on."""
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
    """Return the most memory since the reset: of the device, or of this process.

    For a process it is all resident memory, with libraries and weights. For a device it is the most that tensors
    used, or, if that is more, what the allocator reserves after its unused memory is freed: the intermediate
    values of a CUDA graph are in a reserved pool that belongs to no tensor.
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


def ceilings(device: torch.device, precision: Precision = FLOAT32) -> CeilingsModel:
    """Measure the ceilings of a device in a precision, with the threads of this process."""
    side, numbers = _SIDE[device.type], _COPIED[device.type] // 4
    dtype = torch.float32 if precision is TF32 else getattr(torch, precision.arithmetic)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    maps = left.view(1, side // 32, 32, side).permute(0, 3, 1, 2)  # channels last, the pixels are the rows
    kernel = right.view(side, side, 1, 1)
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    with torch.no_grad(), float32_products(tf32=precision is TF32):
        seconds = min(
            _best(lambda: torch.mm(left, right, out=product), device),
            _best(lambda: torch.mm(left, right.t(), out=product), device),
            _best(lambda: functional.conv2d(maps, kernel), device),
        )
    return CeilingsModel(
        flops_per_second=2 * side**3 / seconds,
        bytes_per_second=2 * 4 * numbers / _best(lambda: target.copy_(source), device),
    )


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Return the shortest time of a few, in seconds; the first sets up."""
    return min([timed(work, device) for _ in range(_ROUNDS)][1:])
