"""Settings of PyTorch that are changed for a while: the precision of float32 products, and the threads.

PyTorch has two sets of switches for the precision. The old ones, ``allow_tf32`` and
``set_float32_matmul_precision``, also set the new ones, ``fp32_precision``. The new ones leave the old ones
unchanged, and an old one that disagrees with them cannot be read. So both are saved, set and restored
together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

_BACKENDS: Final[Any] = torch.backends
"""The framework's switches; its types do not name the new ones."""

_UNSET: Final = "none"
"""The value of a new switch that follows its parent switch."""

_SWITCHES: Final = (
    _BACKENDS,
    _BACKENDS.cudnn,
    _BACKENDS.cudnn.conv,
    _BACKENDS.cudnn.rnn,
    _BACKENDS.cuda.matmul,
    _BACKENDS.mkldnn.conv,
    _BACKENDS.mkldnn.rnn,
    _BACKENDS.mkldnn.matmul,
)
"""Holders of a new switch, each after its parent."""


@contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """Compute float32 convolutions and matrix products in TF32, or in IEEE float32, on a device with both."""
    new, convolutions, matrices = _read_and_unset()
    _BACKENDS.cudnn.allow_tf32 = _BACKENDS.cuda.matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        _read_and_unset()
        _BACKENDS.cudnn.allow_tf32 = convolutions  # the old switches first, as they set new ones
        torch.set_float32_matmul_precision(matrices)
        for holder, value in zip(_SWITCHES, new, strict=True):
            holder.fp32_precision = value


def _read_and_unset() -> tuple[list[str], bool, str]:
    """Return the new switches, the old one of convolutions and the old precision of products; unset the new ones."""
    new = []
    for holder in _SWITCHES:  # a switch is read after its parent is unset: then the value is its own
        new.append(str(holder.fp32_precision))
        holder.fp32_precision = _UNSET
    matrices = torch.get_float32_matmul_precision()
    return new, _convolutions(), matrices


def _convolutions() -> bool:
    """Return the old switch of convolutions, which can be read if the new ones agree with it."""
    _BACKENDS.cudnn.conv.fp32_precision = _BACKENDS.cudnn.rnn.fp32_precision = "tf32"
    try:
        return bool(_BACKENDS.cudnn.allow_tf32)
    except RuntimeError:
        return False


@contextmanager
def threads_for(dtype: torch.dtype) -> Iterator[None]:
    """Use one thread in float64.

    The framework convolves float64 channel by channel, and threads that wait for each other at every
    channel take twice the processor time for the same result.
    """
    with threads(1 if dtype is torch.float64 else torch.get_num_threads()):
        yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use a number of threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
