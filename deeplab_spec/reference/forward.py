"""What the forward passes of all layers share: checks of the input, the resize, and intermediate values by name."""

from typing import Any, Final

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from deeplab_spec.errors import Pattern, ShapeError
from deeplab_spec.spec.choices import Interpolation

MAP_RANK = 4
"""Images, channels, height, width."""

Side = Any
"""A number of pixels or images: an integer, or a tensor during tracing."""


def require_map(x: Tensor, channels: int, layer: str) -> None:
    """Require a batch of maps with a number of channels.

    Raises:
        ShapeError: If the rank or the channels are wrong, or a side is empty.
    """
    if x.ndim != MAP_RANK or x.shape[1] != channels or any(side < 1 for side in x.shape):
        raise ShapeError(layer, ("n", channels, "h", "w"), tuple(x.shape))


def require_batch(x: Tensor, batch: Side, layer: str) -> None:
    """Require a batch size.

    Raises:
        ShapeError: If the number of images differs.
    """
    if x.shape[0] != batch:
        raise ShapeError(layer, (batch, x.shape[1], "h", "w"), tuple(x.shape))


def require_sides(x: Tensor, least: int, layer: str) -> None:
    """Require maps that a kernel fits into.

    Raises:
        ShapeError: If a side is shorter.
    """
    if x.shape[2] < least or x.shape[3] < least:
        raise ShapeError(layer, _sides(x, f"{{}} of at least {least}"), tuple(x.shape))


def require_multiple(x: Tensor, multiple: int, layer: str) -> None:
    """Require maps whose sides are multiples of a number; an input of another rank is left to the next layer.

    Raises:
        ShapeError: If a side is not a multiple.
    """
    if x.ndim == MAP_RANK and (x.shape[2] % multiple or x.shape[3] % multiple):
        raise ShapeError(layer, _sides(x, f"{{}} a multiple of {multiple}"), tuple(x.shape))


def _sides(x: Tensor, rule: str) -> Pattern:
    return ("n", x.shape[1], rule.format("h"), rule.format("w"))


def resize(
    x: Float[Tensor, "n c h w"], like: Float[Tensor, "m d h2 w2"], rule: Interpolation
) -> Float[Tensor, "n c h2 w2"]:
    """Resize a map to the height and width of another."""
    size = like.shape[2:]
    match rule:
        case Interpolation.ALIGN_CORNERS:
            return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
        case Interpolation.HALF_PIXEL:
            return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
        case Interpolation.NEAREST:
            return functional.interpolate(x, size=size, mode="nearest")


class Values:
    """Keeps selected values while a forward pass computes them.

    A layer passes every value that it computes to :meth:`keep`, under the path of its node, and continues
    with the returned tensor, which is the same.

    Every value also goes to the ``outer`` collector, if there is one.

    Attributes:
        kept: The values by path.
    """

    def __init__(self, *paths: str, outer: "Values | None" = None) -> None:
        self._paths: frozenset[str] | None = frozenset(paths)
        self._outer = outer
        self.kept: dict[str, Tensor] = {}

    @classmethod
    def everything(cls) -> "Values":
        """Return a collector that keeps every value."""
        values = cls()
        values._paths = None
        return values

    def keep(self, path: str, value: Tensor) -> Tensor:
        """Keep a value if its path is selected, and return it."""
        if self._paths is None or path in self._paths:
            self.kept[path] = value
        if self._outer is not None:
            self._outer.keep(path, value)
        return value

    def __getitem__(self, path: str) -> Tensor:
        """Return the kept value of a path; KeyError if there is none."""
        return self.kept[path]


DISCARD: Final = Values()
"""The default of every forward pass: keeps nothing."""
