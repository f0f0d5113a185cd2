"""In which precision a device multiplies numbers of float32.

PyTorch has two sets of switches for it. The old ones, ``allow_tf32`` and ``set_float32_matmul_precision``, set
the new ones as well; the new ones, ``fp32_precision``, leave the old ones as they are, and an old one that
disagrees with them cannot be read. So both are saved, set and put back together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch

_BACKENDS: Final[Any] = torch.backends
"""The framework's switches; it types none of the new ones."""

_UNSET: Final = "none"
"""The value of a new switch that follows the switch above it."""

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
"""What has a new switch; a switch stands behind the one that it follows while it is unset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """The switches as a program set them.

    Attributes:
        new: The value of each new switch itself, not of one that it follows.
        convolutions: The old switch of convolutions.
        matrices: The old precision of matrix products.
    """

    new: tuple[str, ...]
    convolutions: bool
    matrices: str


@contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """Compute float32 products in TF32, or as IEEE says, where the device has both."""
    before = _taken()
    _BACKENDS.cudnn.allow_tf32 = _BACKENDS.cuda.matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        _taken()
        _put(before)


def _taken() -> _Settings:
    """Return the switches, and unset the new ones."""
    new = []
    for holder in _SWITCHES:  # a switch is read after the one that it follows is unset: then the value is its own
        new.append(str(holder.fp32_precision))
        holder.fp32_precision = _UNSET
    matrices = torch.get_float32_matmul_precision()
    return _Settings(new=tuple(new), convolutions=_convolutions(), matrices=matrices)


def _convolutions() -> bool:
    """Return the old switch of convolutions: it can be read where the new ones agree with it."""
    _BACKENDS.cudnn.conv.fp32_precision = _BACKENDS.cudnn.rnn.fp32_precision = "tf32"
    try:
        return bool(_BACKENDS.cudnn.allow_tf32)
    except RuntimeError:
        return False


def _put(settings: _Settings) -> None:
    """Put the switches back: the old ones first, as they set new ones."""
    _BACKENDS.cudnn.allow_tf32 = settings.convolutions
    torch.set_float32_matmul_precision(settings.matrices)
    for holder, value in zip(_SWITCHES, settings.new, strict=True):
        holder.fp32_precision = value


@contextmanager
def threads_for(dtype: torch.dtype) -> Iterator[None]:
    """Use one thread in float64.

    There the framework convolves channel by channel, and threads that wait for each other at every
    channel take twice the time of the processors for the same result.
    """
    before = torch.get_num_threads()
    if dtype is torch.float64:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
