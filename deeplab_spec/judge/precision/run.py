"""Runs networks in lower precisions.

A network runs in bfloat16 or float16 with its weights and images cast to it, and in autocast-bfloat16 or
autocast-float16 with its weights in float32 and automatic mixed precision. TF32 is what a CUDA device does to the
factors of float32 products; on other devices it is emulated: the factors of convolutions and matrix products are
rounded to its ten bits.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.errors import TargetError
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.precision import FLOAT32, TF32, Precision

_PRODUCTS: Final = frozenset(
    {
        torch.ops.aten.convolution.default,
        torch.ops.aten.mm.default,
        torch.ops.aten.bmm.default,
        torch.ops.aten.addmm.default,
        torch.ops.aten.baddbmm.default,
    }
)
"""The operations whose factors are rounded: those of convolutions and matrix products."""

_FACTORS: Final[Mapping[object, slice]] = {
    torch.ops.aten.addmm.default: slice(1, 3),
    torch.ops.aten.baddbmm.default: slice(1, 3),
}
"""The arguments that are factors; for operations not named here, the first two."""


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

    @contextmanager
    def active(self) -> Iterator[None]:
        """Return a context that computes in this precision, with tensors of its storage dtype."""
        if self.precision.autocast:
            with torch.autocast(self.device.type, dtype_of(self.precision.arithmetic), cache_enabled=False):
                yield
        elif self.emulated:
            with _Rounded():  # type: ignore[no-untyped-call]  # the framework leaves it untyped
                yield
        else:
            with float32_products(tf32=self.precision is TF32):
                yield


def rounded(value: Tensor) -> Tensor:
    """Round float32 numbers to ten bits, ties to even, as a device rounds the factors of TF32 products.

    >>> rounded(torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-10])).tolist()
    [1.0, 1.001953125, 1.0009765625]
    """
    dropped = FLOAT32.bits - TF32.bits
    bits = value.contiguous().view(torch.int32)
    half = (1 << (dropped - 1)) - 1
    kept = (bits + half + ((bits >> dropped) & 1)) >> dropped << dropped
    return torch.where(value.isfinite(), kept.view(torch.float32), value)


class _Rounded(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as above
    """Rounds the factors of float32 products to TF32."""

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - the framework's signature
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - the operation's result
        """Run one operation of the framework."""
        if func in _PRODUCTS:
            factors = _FACTORS.get(func, slice(2))
            mine = [
                rounded(value) if number in range(*factors.indices(len(args))) and _single(value) else value
                for number, value in enumerate(args)
            ]
            args = tuple(mine)
        return func(*args, **(kwargs or {}))


def _single(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype is torch.float32


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
    before = {name: tensor.clone() for name, tensor in state_of(module).items()}
    module.to(dtype)
    try:
        yield
    finally:
        module.double()
        with torch.no_grad():
            for name, tensor in state_of(module).items():
                tensor.copy_(before[name])


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
