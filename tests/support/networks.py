"""Small networks for tests of modes and profiles."""

import os
import time
from typing import Any

import torch
from torch import Tensor, nn

from deeplab_spec.reference.forward import Values, resize
from deeplab_spec.reference.network import build
from deeplab_spec.spec.choices import ChoiceValue

NARROW: dict[str, ChoiceValue] = {"width": 0.03, "middle_blocks": 2}
"""Choices of the narrow networks to profile."""

SLOW_BLOCK = "backbone.middle_flow.block2"


class Small(nn.Module):
    """A network with normalisations that can and cannot be folded, a skip and an atrous depthwise convolution.

    Args:
        channels: Channels of every map but the image.
    """

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=2, dilation=2, groups=channels, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(channels, eps=1e-3)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.pointwise_norm = nn.BatchNorm2d(channels)
        self.read_twice = nn.Conv2d(channels, channels, 1)
        self.late_norm = nn.BatchNorm2d(channels)
        draw(self)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        x = self.stem_norm(self.stem(x)).relu()
        y = self.depthwise_norm(self.depthwise(x)).relu()
        x = x + self.pointwise_norm(self.pointwise(y))
        z = self.read_twice(x)
        result: Tensor = z + self.late_norm(z)  # two nodes use the convolution, so that the norm cannot be folded
        return result


class Shared(Small):
    """One convolution that is called twice, so that neither of its normalisations can be folded."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        x = self.stem_norm(self.stem(x)).relu()
        result: Tensor = self.pointwise_norm(self.pointwise(x)) + self.late_norm(self.pointwise(x.neg()))
        return result


class Named(Small):
    """A network that returns a dictionary, as those of some libraries do."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Run the network."""
        return {"out": super().forward(x)}


class Particular(Small):
    """A network with another output once its normalisation is folded, so that folding is wrong."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        return super().forward(x) + isinstance(self.stem_norm, nn.Identity)


def draw(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every normalisation random numbers, so that a wrong fold changes the output."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(_tensor(layer.running_mean), 0, 0.5)
                nn.init.uniform_(_tensor(layer.running_var), 0.01, 2)
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias)
    return module.eval()


def _tensor(tensor: Any) -> Tensor:
    assert isinstance(tensor, Tensor)
    return tensor


def norms(module: nn.Module) -> int:
    """Count the normalisations."""
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


def images(batch: int = 2) -> Tensor:
    """Return images of odd sides."""
    return torch.randn(batch, 3, 17, 23, generator=torch.Generator().manual_seed(1))


class Hangs(Small):
    """A network that never returns."""

    def forward(self, x: Tensor) -> Tensor:
        """Wait."""
        time.sleep(600)
        return super().forward(x)


class Dies(Small):
    """A network that ends its process."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: ARG002 - as the base class
        """End the process."""
        os._exit(7)


def right(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build the source document's network, narrow."""
    return build("notebook", output_stride, num_classes, NARROW)


class Slow(nn.Module):
    """A block with extra work that a captured graph does not show."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.ballast = torch.ones(640, 640)

    def forward(self, *arguments: Any) -> Tensor:
        """Return the block's result."""
        for _ in range(6):
            torch.mm(self.ballast, self.ballast)
        result: Tensor = self.block(*arguments)
        return result


def slowed(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build the same network with extra work in a block of the middle flow."""
    network: Any = right(output_stride, num_classes)
    flow = network.backbone.middle_flow
    flow["block2"] = Slow(flow["block2"])
    return network


class Renamed(nn.Module):
    """The same network, with its layers in a list, in random order."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.rows = network.backbone.rows
        self.last = network.output_resize
        layers = [network.backbone.get_submodule(path) for path in network.backbone._layers]
        order = torch.randperm(len(layers), generator=torch.Generator().manual_seed(0)).tolist()
        self.bag = nn.ModuleList(layers[place] for place in order)
        self.steps = [order.index(place) for place in range(len(layers))]
        self.tail = nn.ModuleList([network.decoder, network.aspp])

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        values = Values(self.rows.low_level)
        x = image
        for step in self.steps:
            x = self.bag[step](x, values)
        x = self.tail[0](self.tail[1](x), values[self.rows.low_level])
        return resize(x, image, self.last)


def renamed(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Build the shuffled network."""
    return Renamed(right(output_stride, num_classes))


class Foreign(nn.Module):
    """A different architecture."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.tail = nn.Conv2d(8, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.tail(self.body(image))
        return logits


class Single(nn.Module):
    """A network that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def __deepcopy__(self, _memo: object) -> "Single":
        raise TypeError("there is only one")

    def forward(self, image: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.layer(image)
        return logits


def broken_when_run() -> nn.Module:
    """Build a network that needs more than one image in training."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
