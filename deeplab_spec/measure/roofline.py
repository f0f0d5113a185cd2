"""What a device can do at most, measured where it is asked: operations and bytes per second.

The fastest of several ways to multiply two matrices is the ceiling of arithmetic, since a library that
convolves well may multiply badly; the fastest copy is that of memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch.nn import functional

from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.measure.timing import timed
from deeplab_spec.precision import FLOAT32, TF32, Precision

_ROUNDS: Final = 6
_SIDE: Final = {"cpu": 1536, "cuda": 8192}
"""Rows and columns of the matrices: enough that arithmetic, not memory, is the limit."""
_COPIED: Final = {"cpu": 2**28, "cuda": 2**31}
"""Bytes that are copied: more than any cache holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What a device was seen to do at most.

    Attributes:
        flops_per_second: Of a product of matrices; an addition and a multiplication are two.
        bytes_per_second: Of a copy; every byte is read and written.
    """

    flops_per_second: float
    bytes_per_second: float

    def least_seconds(self, flops: float, moved: float) -> float:
        """Return the time in which the device can at best compute and move so much, both at once.

        >>> Ceilings(flops_per_second=100, bytes_per_second=10).least_seconds(200, 30)
        3.0
        """
        return max(flops / self.flops_per_second, moved / self.bytes_per_second)


def ceilings(device: torch.device, precision: Precision = FLOAT32) -> Ceilings:
    """Measure the ceilings of a device in a precision, with the threads that this process has."""
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
    return Ceilings(
        flops_per_second=2 * side**3 / seconds,
        bytes_per_second=2 * 4 * numbers / _best(lambda: target.copy_(source), device),
    )


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Return the shortest time of a few, in seconds; the first sets up."""
    return min([timed(work, device) for _ in range(_ROUNDS)][1:])
