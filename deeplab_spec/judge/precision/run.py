"""Runs networks in lower precisions.

A network runs in bfloat16 or float16 with its weights and images cast to it, and in autocast-bfloat16 or
autocast-float16 with its weights in float32 and automatic mixed precision. TF32 is what a CUDA device does to the
factors of float32 products; on other devices it is emulated: the factors of convolutions and matrix products are
rounded to its ten bits.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deeplab_spec.capture.candidate.process import RoundedProducts
from deeplab_spec.capture.capture import CallSettings
from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.errors import TargetError
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.judge.load_weights import assign
from deeplab_spec.precision import TF32, Precision


def dtype_of(name: str) -> torch.dtype:
    """Return a dtype of the framework.

    >>> dtype_of("bfloat16")
    torch.bfloat16
    """
    found: torch.dtype = getattr(torch, name)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDevice:
    """A precision on a device.

    Attributes:
        precision: The precision.
        device: The device.
    """

    precision: Precision
    device: torch.device

    @property
    def name(self) -> str:
        """Its name."""
        return self.precision.name

    @property
    def emulated(self) -> bool:
        """Whether the device does not have this precision, so that its rounding is emulated."""
        return self.precision is TF32 and self.device.type != "cuda"

    @property
    def storage(self) -> torch.dtype:
        """The dtype of weights and images."""
        return dtype_of(self.precision.storage)

    @property
    def between(self) -> torch.dtype:
        """The dtype of values between operations."""
        return dtype_of(self.precision.arithmetic) if self.precision.autocast else self.storage

    @property
    def rounding(self) -> float:
        """The relative error of one rounding."""
        return self.precision.eps / 2

    @property
    def call(self) -> CallSettings:
        """How a candidate is called in this precision; its emulation needs the original of a compiled module."""
        return CallSettings(
            original=self.emulated,
            autocast=self.precision.arithmetic if self.precision.autocast else None,
            tf32=self.precision is TF32,
            rounded=self.emulated,
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Return a context that computes in this precision, with tensors of its storage dtype."""
        if self.precision.autocast:
            with torch.autocast(self.device.type, dtype_of(self.precision.arithmetic), cache_enabled=False):
                yield
        elif self.emulated:
            with RoundedProducts():
                yield
        else:
            with float32_products(tf32=self.precision is TF32):
                yield


@contextmanager
def moved(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Move a module to a device, and back to the CPU."""
    module.to(device)
    try:
        yield
    finally:
        module.to("cpu")


@contextmanager
def stored(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Convert a module in float64 to another dtype; afterwards it is in float64 with its original numbers."""
    before = {name: tensor.detach() for name, tensor in state_of(module).items()}
    module.to(dtype)
    try:
        yield
    finally:
        module.double()
        for name, tensor in state_of(module).items():
            assign(tensor, before[name])


def cast(tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device | None = None) -> dict[str, Tensor]:
    """Return tensors in another dtype and on a device; those of integer dtypes keep their dtype."""
    return {name: tensor.to(device, dtype if tensor.is_floating_point() else None) for name, tensor in tensors.items()}


def where(dtype: str, device: torch.device) -> str:
    """Return the device of a precision as text, and whether the precision is emulated on it.

    >>> where("tf32", torch.device("cpu")), where("float32", torch.device("cpu"))
    ('cpu (emulated)', 'cpu')
    """
    emulated = dtype == TF32.name and OnDevice(precision=TF32, device=device).emulated
    return f"{device.type} (emulated)" if emulated else device.type


def device_of(name: str) -> torch.device:
    """Return a device.

    Raises:
        TargetError: If it is not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise TargetError("--device cuda", "no CUDA device is available")
    return torch.device(name)
