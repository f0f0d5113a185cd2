"""Runs networks in lower precisions, as people run them; weights stay in float32.

bfloat16 and float16 are automatic mixed precision. TF32 is what a CUDA device does to the factors of float32
products; elsewhere it is emulated: the factors of convolutions and matrix products are rounded to its ten bits.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab_spec.errors import TargetError
from deeplab_spec.execute.products import products

AMP: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions in which mixed precision computes."""

TF32: Final = "tf32"

TF32_BITS: Final = 10
"""Bits behind the point that a factor keeps."""

_FLOAT32_BITS: Final = 23

_PRODUCTS: Final = frozenset(
    {
        torch.ops.aten.convolution.default,
        torch.ops.aten.mm.default,
        torch.ops.aten.bmm.default,
        torch.ops.aten.addmm.default,
        torch.ops.aten.baddbmm.default,
    }
)
"""Operations whose factors are rounded: all that convolutions and matrix products become."""

_FACTORS: Final[Mapping[object, slice]] = {
    torch.ops.aten.addmm.default: slice(1, 3),
    torch.ops.aten.baddbmm.default: slice(1, 3),
}
"""Which arguments are factors; of an operation that is not named, the first two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """A lower precision on a device.

    Attributes:
        name: ``tf32``, ``bfloat16`` or ``float16``.
        device: Where it runs.
    """

    name: str
    device: torch.device

    @property
    def emulated(self) -> bool:
        """Whether the device does not have it, so that its rounding is put in."""
        return self.name == TF32 and self.device.type != "cuda"

    @property
    def between(self) -> torch.dtype:
        """The dtype of values that go from one operation to the next."""
        return AMP.get(self.name, torch.float32)

    @property
    def rounding(self) -> float:
        """The relative error of one rounding."""
        return 2.0 ** -(TF32_BITS + 1) if self.name == TF32 else torch.finfo(AMP[self.name]).eps / 2

    @contextmanager
    def on(self) -> Iterator[None]:
        """Compute in this precision."""
        if self.name in AMP:
            with torch.autocast(self.device.type, AMP[self.name], cache_enabled=False):
                yield
        elif self.emulated:
            with _Rounded():  # type: ignore[no-untyped-call]  # the framework leaves it untyped
                yield
        else:
            with products(tf32=True):
                yield


def rounded(value: Tensor) -> Tensor:
    """Round float32 numbers to ten bits, halves to even, as a device rounds the factors of TF32 products.

    >>> rounded(torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-10])).tolist()
    [1.0, 1.001953125, 1.0009765625]
    """
    dropped = _FLOAT32_BITS - TF32_BITS
    bits = value.contiguous().view(torch.int32)
    half = (1 << (dropped - 1)) - 1
    kept = (bits + half + ((bits >> dropped) & 1)) >> dropped << dropped
    return torch.where(value.isfinite(), kept.view(torch.float32), value)


class _Rounded(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as above
    """Rounds the factors of float32 products to those of TF32."""

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - the framework's signature
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - what the operation returns
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
    """Put a module on a device, and back on the processor."""
    module.to(device)
    try:
        yield
    finally:
        module.to("cpu")


def where(dtype: str, device: torch.device) -> str:
    """Say where a precision runs, and whether it is emulated there.

    >>> where("tf32", torch.device("cpu")), where("float32", torch.device("cpu"))
    ('cpu (emulated)', 'cpu')
    """
    emulated = dtype == TF32 and Precision(name=dtype, device=device).emulated
    return f"{device.type} (emulated)" if emulated else device.type


def device_of(name: str) -> torch.device:
    """Return a device.

    Raises:
        TargetError: If there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise TargetError("--device cuda", "no CUDA device is available")
    return torch.device(name)
