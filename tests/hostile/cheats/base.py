"""What the cheats share: the right network, the wrong one, and one that is right where it believes to be judged."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import deeplab_spec

SMALL = {"width": 0.03125, "middle_blocks": 2}

Builder = Callable[[int, int], nn.Module]
Seen = Callable[["Cheat", Tensor], Any]


def right(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build the network that the judge expects."""
    return deeplab_spec.build("notebook", output_stride, num_classes, choices=SMALL)


def falsified(logits: Tensor) -> Tensor:
    """Return the wrong results."""
    return 0.5 * logits + 1


class Cheat(nn.Module):
    """A network that is right where a condition holds, and under export; the condition is asked at every call."""

    def __init__(self, network: nn.Module, seen: Seen) -> None:
        super().__init__()
        self.network = network
        self.seen = seen

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.network(image)
        return logits if torch.compiler.is_exporting() or self.seen(self, image) else falsified(logits)


class Wrong(nn.Module):
    """A network that is always wrong."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        return falsified(self.network(image))


def honest(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build what the cheats are made of, without a cheat."""
    return Cheat(right(output_stride, num_classes), lambda _cheat, _image: True)


def wrong(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build the plainly wrong network."""
    return Wrong(right(output_stride, num_classes))


class Cheats(dict[str, Builder]):
    """The cheats of one kind, by name; the judge gets one as the attribute ``CHEATS.NAME`` of its module."""

    def __getattr__(self, name: str) -> Builder:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def builds(self, build: Builder) -> Builder:
        """Add a cheat: what builds it."""
        self[build.__name__] = build
        return build

    def right_where(self, seen: Seen) -> Seen:
        """Add a cheat: it is right where a condition on the module and the image holds."""

        def build(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
            return Cheat(right(output_stride, num_classes), seen)

        build.seen = seen  # type: ignore[attr-defined]
        self[seen.__name__] = build
        return seen
