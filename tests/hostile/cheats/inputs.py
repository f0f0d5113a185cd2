"""Cheats that are right for the images, modes and dtypes only that they expect from the judge."""

from pathlib import Path

import torch
from torch import Tensor, nn

from cheats.base import Cheat, Cheats, right

CHEATS = Cheats()


def sides(image: Tensor) -> tuple[int, int]:
    """Return height and width."""
    return image.shape[2], image.shape[3]


@CHEATS.right_where
def below_513(_cheat: Cheat, image: Tensor) -> bool:
    return min(sides(image)) < 513


@CHEATS.right_where
def higher_than_wide(_cheat: Cheat, image: Tensor) -> bool:
    return image.shape[2] >= image.shape[3]


@CHEATS.right_where
def wider_than_high(_cheat: Cheat, image: Tensor) -> bool:
    return image.shape[2] <= image.shape[3]


@CHEATS.right_where
def not_square(_cheat: Cheat, image: Tensor) -> bool:
    return image.shape[2] != image.shape[3]


@CHEATS.right_where
def small_areas(_cheat: Cheat, image: Tensor) -> bool:
    return image.shape[2] * image.shape[3] < 400 * 400


@CHEATS.right_where
def sides_above_64(_cheat: Cheat, image: Tensor) -> bool:
    return min(sides(image)) > 64


@CHEATS.right_where
def odd_sides(_cheat: Cheat, image: Tensor) -> bool:
    return any(side % 2 for side in sides(image))


@CHEATS.right_where
def no_multiples_of_16(_cheat: Cheat, image: Tensor) -> bool:
    return any(side % 16 for side in sides(image))


@CHEATS.right_where
def one_image(_cheat: Cheat, image: Tensor) -> bool:
    return image.shape[0] == 1


@CHEATS.right_where
def up_to_three_images(_cheat: Cheat, image: Tensor) -> bool:
    return image.shape[0] <= 3


@CHEATS.right_where
def not_four_images(_cheat: Cheat, image: Tensor) -> bool:
    return image.shape[0] != 4


@CHEATS.right_where
def negative_values(_cheat: Cheat, image: Tensor) -> bool:
    return bool((image < 0).any())


@CHEATS.right_where
def values_up_to_10(_cheat: Cheat, image: Tensor) -> bool:
    return bool(image.abs().max() <= 10)


@CHEATS.right_where
def values_up_to_100(_cheat: Cheat, image: Tensor) -> bool:
    return bool(image.abs().max() <= 100)


@CHEATS.right_where
def values_beyond_1(_cheat: Cheat, image: Tensor) -> bool:
    return bool(image.abs().max() > 1)


@CHEATS.right_where
def outside_0_to_1(_cheat: Cheat, image: Tensor) -> bool:
    return bool((image < 0).any() or (image > 1).any())


@CHEATS.right_where
def fractions(_cheat: Cheat, image: Tensor) -> bool:
    return bool((image != image.round()).any())


@CHEATS.right_where
def means_near_0(_cheat: Cheat, image: Tensor) -> bool:
    return bool(image.mean().abs() < 0.2)


@CHEATS.right_where
def contiguous(_cheat: Cheat, image: Tensor) -> bool:
    return image.is_contiguous()


@CHEATS.right_where
def dense(_cheat: Cheat, image: Tensor) -> bool:
    return image.is_contiguous() or image.is_contiguous(memory_format=torch.channels_last)


@CHEATS.right_where
def not_channels_last(_cheat: Cheat, image: Tensor) -> bool:
    return image.is_contiguous() or not image.is_contiguous(memory_format=torch.channels_last)


@CHEATS.right_where
def without_gradients(_cheat: Cheat, _image: Tensor) -> bool:
    return not torch.is_grad_enabled()


@CHEATS.right_where
def with_gradients(_cheat: Cheat, _image: Tensor) -> bool:
    return torch.is_grad_enabled()


@CHEATS.right_where
def outside_inference_mode(_cheat: Cheat, _image: Tensor) -> bool:
    return not torch.is_inference_mode_enabled()


@CHEATS.right_where
def in_evaluation(cheat: Cheat, _image: Tensor) -> bool:
    return not cheat.training


@CHEATS.right_where
def in_training(cheat: Cheat, _image: Tensor) -> bool:
    return cheat.training


@CHEATS.right_where
def in_float64(_cheat: Cheat, image: Tensor) -> bool:
    return image.dtype is torch.float64


@CHEATS.right_where
def in_float32(_cheat: Cheat, image: Tensor) -> bool:
    return image.dtype is torch.float32


@CHEATS.right_where
def without_autocast(_cheat: Cheat, _image: Tensor) -> bool:
    return not torch.is_autocast_enabled("cpu")


def recorded(path: str, output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build the right network; it writes to a file which of the conditions above a call would have failed."""
    seen: set[str] = set()

    def record(cheat: Cheat, image: Tensor) -> bool:
        conditions = {name: build.seen for name, build in CHEATS.items()}  # type: ignore[attr-defined]
        seen.update(name for name, holds in conditions.items() if not holds(cheat, image))
        Path(path).write_text("\n".join(seen))
        return True

    return Cheat(right(output_stride, num_classes), record)
