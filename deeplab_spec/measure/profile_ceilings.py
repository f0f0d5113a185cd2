"""Measures what the device can do at most: operations and bytes per second, in float32.

The ceilings are the best of a few runs of one matrix product and of one copy, in the same process as
the profile, so that clocks, threads and the switches for matrix products are the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import torch

_RUNS: Final = 5
_SIDE: Final = {"cpu": 1536, "cuda": 8192}
"""Rows and columns of the matrices: large enough that the product is bound by arithmetic."""
_COPIED: Final = {"cpu": 2**28, "cuda": 2**31}
"""Bytes that are copied: more than any cache holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What a device was seen to do at most.

    Attributes:
        flops_per_second: Of a matrix product; an addition and a multiplication are two.
        bytes_per_second: Of a copy; every byte is read and written.
    """

    flops_per_second: float
    bytes_per_second: float

    def least_seconds(self, flops: float, moved: float) -> float:
        """Return the time below which the device cannot compute and move so much."""
        return max(flops / self.flops_per_second, moved / self.bytes_per_second)


def measure_ceilings(device: torch.device) -> Ceilings:
    """Measure the ceilings of a device."""
    side = _SIDE[device.type]
    left, right = torch.ones(side, side, device=device), torch.ones(side, side, device=device)
    product = torch.empty(side, side, device=device)
    source = torch.ones(_COPIED[device.type] // 4, device=device)
    target = torch.empty_like(source)
    return Ceilings(
        flops_per_second=2 * side**3 / _best(lambda: torch.mm(left, right, out=product), device),
        bytes_per_second=2 * _COPIED[device.type] / _best(lambda: target.copy_(source), device),
    )


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Return the shortest time of a few runs, in seconds."""
    times = []
    for _ in range(_RUNS + 1):  # the first sets up
        start = perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(perf_counter() - start)
    return min(times[1:])
