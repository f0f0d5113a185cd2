"""What a layer asks of its input, and the error that says so."""

from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from deeplab_spec.errors import Pattern, ShapeError
from deeplab_spec.spec.choices import Interpolation

MAP_RANK = 4
"""Images, channels, height, width."""

Side = Any
"""A number of pixels or images: an integer, or a tensor while a tracer records the arithmetic on sizes."""


def require_map(x: Tensor, channels: int, layer: str) -> None:
    """Refuse what is not a batch of maps with a number of channels.

    Args:
        x: What arrived.
        channels: Channels that it must have.
        layer: Path of the layer that asks.

    Raises:
        ShapeError: If the rank or the channels are wrong, or a side is empty.
    """
    if x.ndim != MAP_RANK or x.shape[1] != channels or any(side < 1 for side in x.shape):
        raise ShapeError(layer, ("n", channels, "h", "w"), tuple(x.shape))


def require_batch(x: Tensor, batch: Side, layer: str) -> None:
    """Refuse maps that are not as many as those they are joined with.

    Raises:
        ShapeError: If the number of images differs.
    """
    if x.shape[0] != batch:
        raise ShapeError(layer, (batch, x.shape[1], "h", "w"), tuple(x.shape))


def require_sides(x: Tensor, least: int, layer: str) -> None:
    """Refuse maps that a kernel does not fit into.

    Args:
        x: What arrived.
        least: Smallest height and width that give an output.
        layer: Path of the layer that asks.

    Raises:
        ShapeError: If a side is shorter.
    """
    if x.shape[2] < least or x.shape[3] < least:
        raise ShapeError(layer, _sides(x, f"{{}} of at least {least}"), tuple(x.shape))


def require_multiple(x: Tensor, multiple: int, layer: str) -> None:
    """Refuse maps whose sides are not multiples of a number; what is no map is left to the layer that reads it.

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
    """Resample a map.

    Args:
        x: The map.
        like: What has the wanted height and width.
        rule: Where the samples are, and how values between them are found.
    """
    size = like.shape[2:]
    match rule:
        case Interpolation.ALIGN_CORNERS:
            return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
        case Interpolation.HALF_PIXEL:
            return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
        case Interpolation.NEAREST:
            return functional.interpolate(x, size=size, mode="nearest")
