"""Times of calls, pairs of them, and what the clock did meanwhile."""

import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import torch

_SPINS: Final = 100_000
_FEW: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times faster one thing is than another, from pairs of times.

    Attributes:
        median: Of the ratios.
        low: Lower end of the interval of the median.
        high: Its upper end.
        coverage: The probability with which such an interval holds the median.
    """

    median: float
    low: float
    high: float
    coverage: float


WARM_UP: Final = {"cpu": 1, "cuda": 3}
"""Untimed runs directly before a timed one: an idle GPU lowers its clock, and other processes fill the caches."""


def timed_warm(work: Callable[[], object], device: torch.device, samples: int = 1) -> float:
    """Return how long a call takes when the device is busy with it already: the median of some, in seconds."""
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


def paired_ratio(base: Sequence[float], other: Sequence[float]) -> Ratio | None:
    """Return how many times faster the other is, or None of fewer than three pairs.

    The interval is between two ordered ratios, symmetric, the narrowest that holds the median with
    95 % where there are at least six pairs, else between the smallest and the largest.

    >>> paired_ratio([2, 4, 6, 8, 10, 12], [1, 1, 2, 2, 2, 3])
    Ratio(median=4.0, low=2.0, high=5.0, coverage=0.96875)
    """
    ratios = sorted(first / second for first, second in zip(base, other, strict=True))
    count = len(ratios)
    if count < _FEW:
        return None
    skipped = max((skip for skip in range(count // 2) if _coverage(count, skip) >= 0.95), default=0)  # noqa: PLR2004 - the usual level
    return Ratio(
        median=statistics.median(ratios),
        low=ratios[skipped],
        high=ratios[-1 - skipped],
        coverage=_coverage(count, skipped),
    )


def _coverage(count: int, skipped: int) -> float:
    """Return the probability that the median lies inside, when so many at each end are left out."""
    outside: int = sum(math.comb(count, below) for below in range(skipped + 1))
    return 1 - 2 * outside / 2.0**count


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
        except Exception:  # noqa: BLE001 - NVML has exceptions of its own; a clock that is unknown stops nothing
            return None
    cores = re.findall(r"^cpu MHz\s*: ([\d.]+)", _cpuinfo(), re.MULTILINE)
    return statistics.fmean(map(float, cores)) if cores else None


def device_name(device: torch.device) -> str:
    """Return the model of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = re.search(r"^model name\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    return model.group(1) if model else "CPU"


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
