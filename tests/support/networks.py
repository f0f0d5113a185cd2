"""Small networks with everything that a mode treats in its own way."""

import os
import time
from typing import Any

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Normalisations that can be folded and ones that cannot, a skip, an atrous depthwise convolution.

    Args:
        channels: Of every map but the image.
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
        result: Tensor = z + self.late_norm(z)  # not the norm alone reads the convolution
        return result


class Shared(Small):
    """One convolution that is called twice, so that neither of its normalisations can go into it."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        x = self.stem_norm(self.stem(x)).relu()
        result: Tensor = self.pointwise_norm(self.pointwise(x)) + self.late_norm(self.pointwise(x.neg()))
        return result


class Named(Small):
    """A network that returns a dictionary, as some libraries' do."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Run the network."""
        return {"out": super().forward(x)}


class Particular(Small):
    """A network that computes something else without its normalisation, so that folding it is wrong."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        return super().forward(x) + isinstance(self.stem_norm, nn.Identity)


def draw(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every normalisation numbers with which a wrong fold shows."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(_there(layer.running_mean), 0, 0.5)
                nn.init.uniform_(_there(layer.running_var), 0.01, 2)
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias)
    return module.eval()


def _there(tensor: Any) -> Tensor:
    assert isinstance(tensor, Tensor)
    return tensor


def norms(module: nn.Module) -> int:
    """Count the normalisations that are left."""
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


def images(batch: int = 2) -> Tensor:
    """Return images of odd sides."""
    return torch.randn(batch, 3, 17, 23, generator=torch.Generator().manual_seed(1))


class Hangs(Small):
    """A network that never answers."""

    def forward(self, x: Tensor) -> Tensor:
        """Wait."""
        time.sleep(600)
        return super().forward(x)


class Dies(Small):
    """A network that takes its process with it."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: ARG002 - the signature of the others
        """End the process."""
        os._exit(7)
