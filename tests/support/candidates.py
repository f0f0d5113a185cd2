"""Candidates for the judge: the reference, small, and the same with one thing wrong at the interface."""

import os
import sys
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from deeplab_spec.reference.network import build
from deeplab_spec.spec.choices import ChoiceValue

WIDTH = 0.03
"""The narrowest width at which every clause can still be decided."""

SMALL: Final[dict[str, ChoiceValue]] = {"width": WIDTH, "middle_blocks": 2}
"""A network in which the middle flow, sixteen blocks that are alike, is short."""


def right(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build the source document's network, narrow."""
    return build("notebook", output_stride, num_classes, SMALL)


class Wrapped(nn.Module):
    """A right network, or a part of it, behind a call that does one thing wrong."""

    def __init__(self, output_stride: int, num_classes: int, part: str = "") -> None:
        super().__init__()
        self.network = right(output_stride, num_classes).get_submodule(part)

    def forward(self, image: Tensor) -> Any:
        """Return the logits."""
        return self.network(image)


class Plain(nn.Module):
    """Convolutions in a row: a network of another architecture."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 21, 3, padding=1)]
        for _ in range(8):
            layers += [nn.ReLU(), nn.Conv2d(21, 21, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.layers(image)
        return logits


def wrapped(wrong: Callable[[Wrapped, Tensor], Any]) -> Callable[..., nn.Module]:
    """Return what builds a network with another forward pass."""

    class Wrong(Wrapped):
        def forward(self, image: Tensor) -> Any:
            return wrong(self, image)

    def make(output_stride: int = 16, num_classes: int = 21, part: str = "") -> nn.Module:
        return Wrong(output_stride, num_classes, part)

    return make


def _first(module: Wrapped, kind: type[nn.Module]) -> Any:
    return next(layer for layer in module.network.modules() if isinstance(layer, kind))


def _writes_to_its_input(module: Wrapped, image: Tensor) -> Tensor:
    logits: Tensor = module.network(image)
    image.mul_(2)
    return logits


def _counts_calls(module: Wrapped, image: Tensor) -> Tensor:
    _first(module, nn.BatchNorm2d).running_mean.add_(1e-3)
    logits: Tensor = module.network(image)
    return logits


def _mixes_the_batch(module: Wrapped, image: Tensor) -> Tensor:
    logits: Tensor = module.network(image)
    return logits + logits.mean(dim=0, keepdim=True)


def _raises(module: Wrapped, image: Tensor) -> Tensor:
    if image.shape[-1] % 2:
        raise RuntimeError("odd widths are beyond this model")
    logits: Tensor = module.network(image)
    return logits


def _takes_anything(module: Wrapped, image: Tensor) -> Tensor:
    image = image if image.ndim == 4 else image[None]
    logits: Tensor = module.network(image[:, : _first(module, nn.Conv2d).in_channels])
    return logits


def _returns_nothing(module: Wrapped, image: Tensor) -> None:
    module.network(image)


def _adds_noise(module: Wrapped, image: Tensor) -> Tensor:
    logits: Tensor = module.network(image)
    return logits + torch.rand_like(logits)


def _not_finite(module: Wrapped, image: Tensor) -> Tensor:
    logits: Tensor = module.network(image)
    return logits / torch.zeros_like(logits)


in_a_dict = wrapped(lambda module, image: {"out": module.network(image)})
nothing = wrapped(_returns_nothing)
small_logits = wrapped(lambda module, image: module.network(image)[:, :, ::2, ::2])
in_float64 = wrapped(lambda module, image: module.network(image).double())
not_finite = wrapped(_not_finite)
odd_widths_refused = wrapped(_raises)
noisy = wrapped(_adds_noise)
batch_mixed = wrapped(_mixes_the_batch)
input_changed = wrapped(_writes_to_its_input)
state_changed = wrapped(_counts_calls)
anything_taken = wrapped(_takes_anything)
exits = wrapped(lambda _module, _image: sys.exit(1))


def talkative(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build a right network, and print while it is built."""
    print("building")  # noqa: T201 - what a candidate may do
    return right(output_stride, num_classes)


def ends_while_built() -> nn.Module:
    """End the process instead of building."""
    os._exit(7)


def broken() -> nn.Module:
    """Fail to build, with a message of two lines."""
    raise RuntimeError("no such weights\nand more")


def not_a_module() -> str:
    """Give something else than a module."""
    return "a network"


def steps(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build a network whose graph depends on the values of the image."""

    def forward(module: Wrapped, image: Tensor) -> Tensor:
        logits: Tensor = module.network(image if image.sum() > 0 else image.abs())
        return logits

    return wrapped(forward)(output_stride, num_classes)
