"""One map brought to the size of another."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from deeplab_spec.spec.choices import Interpolation


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
