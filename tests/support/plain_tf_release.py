"""The authors' release at an eighth of its width, right in every respect, as one file that needs PyTorch only."""

import torch
from torch import Tensor, nn
from torch.nn import functional

MOMENTUM = 0.0003
BACKBONE, HEAD = 1e-3, 1e-5
"""Epsilons of normalisations."""

STD = 0.09
"""Standard deviation of the backbone's initial weights, before they are cut off."""


def conv(inputs: int, outputs: int, kernel: int, std: float = STD, **options: int) -> nn.Conv2d:
    """Return a convolution without a bias, with its initial weights."""
    layer = nn.Conv2d(inputs, outputs, kernel, bias=False, **options)
    draw(layer, std)
    return layer


def draw(layer: nn.Conv2d, std: float) -> None:
    """Draw initial weights: truncated normal ones, or those that are the default of the release's framework."""
    if std:
        nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    else:
        nn.init.xavier_uniform_(layer.weight)


def norm(channels: int, eps: float) -> nn.BatchNorm2d:
    """Return a normalisation."""
    return nn.BatchNorm2d(channels, eps=eps, momentum=MOMENTUM)


def unit(inputs: int, outputs: int, kernel: int, eps: float, **options: int) -> nn.Sequential:
    """Return a dense convolution with its normalisation and ReLU."""
    std = STD if eps == BACKBONE else 0.0
    return nn.Sequential(conv(inputs, outputs, kernel, std, **options), norm(outputs, eps), nn.ReLU())


def separable(inputs: int, outputs: int, rate: int, stride: int = 1) -> nn.Sequential:
    """Return a separable convolution of a block of the backbone."""
    depthwise = conv(inputs, inputs, 3, stride=stride, padding=rate, dilation=rate, groups=inputs)
    return nn.Sequential(depthwise, norm(inputs, BACKBONE), conv(inputs, outputs, 1), norm(outputs, BACKBONE))


def active(inputs: int, outputs: int, rate: int, eps: float, stds: tuple[float, float] = (STD, STD)) -> nn.Sequential:
    """Return a separable convolution with a ReLU after each of its halves."""
    depthwise = conv(inputs, inputs, 3, stds[0], padding=rate, dilation=rate, groups=inputs)
    pointwise = conv(inputs, outputs, 1, stds[1])
    return nn.Sequential(depthwise, norm(inputs, eps), nn.ReLU(), pointwise, norm(outputs, eps), nn.ReLU())


class Block(nn.Module):
    """Three separable convolutions beside a skip."""

    def __init__(self, inputs: int, widths: tuple[int, int, int], stride: int = 1, rate: int = 1) -> None:
        super().__init__()
        first, second, third = widths
        self.layers = nn.ModuleList(
            (separable(inputs, first, rate), separable(first, second, rate), separable(second, third, rate, stride))
        )
        self.skip = nn.Sequential()
        if inputs != third or stride != 1:
            self.skip = nn.Sequential(conv(inputs, third, 1, stride=stride), norm(third, BACKBONE))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum, and the result of the second layer."""
        first = self.layers[0](torch.relu(x))
        second = self.layers[1](torch.relu(first))
        return self.layers[2](torch.relu(second)) + self.skip(x), second


class Network(nn.Module):
    """The whole network."""

    def __init__(self, output_stride: int, classes: int, middle_blocks: int) -> None:
        super().__init__()
        last, middle, exit1, exit2 = {32: (2, 1, 1, 1), 16: (1, 1, 1, 2), 8: (1, 2, 2, 4)}[output_stride]
        self.stem = nn.Sequential(unit(3, 4, 3, BACKBONE, stride=2, padding=1), unit(4, 8, 3, BACKBONE, padding=1))
        self.block1, self.block2 = Block(8, (16,) * 3, 2), Block(16, (32,) * 3, 2)
        blocks = [Block(32, (91,) * 3, 1 if output_stride == 8 else 2)]
        blocks += [Block(91, (91,) * 3, rate=middle) for _ in range(middle_blocks)]
        self.blocks = nn.ModuleList([*blocks, Block(91, (91, 128, 128), last, exit1)])
        self.exit = nn.Sequential(
            active(128, 192, exit2, BACKBONE), active(192, 192, exit2, BACKBONE), active(192, 256, exit2, BACKBONE)
        )
        stds = (0.33, 0.06)
        rates = (12, 24, 36) if output_stride == 8 else (6, 12, 18)
        self.pool = unit(256, 32, 1, HEAD)
        self.branches = nn.ModuleList([unit(256, 32, 1, HEAD), *(active(256, 32, rate, HEAD, stds) for rate in rates)])
        self.project = nn.Sequential(unit(160, 32, 1, HEAD), nn.Dropout(0.1))
        self.low = unit(32, 6, 1, HEAD)
        self.decoder = nn.Sequential(active(38, 32, 1, HEAD, stds), active(32, 32, 1, HEAD, stds))
        self.logits = nn.Conv2d(32, classes, 1)
        draw(self.logits, 0.01)
        nn.init.zeros_(self.logits.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        x, _ = self.block1(self.stem(image))
        x, low = self.block2(x)
        for block in self.blocks:
            x, _ = block(x)
        x = self.exit(x)
        pooled = resized(self.pool(x.mean(dim=(2, 3), keepdim=True)), x)
        x = self.project(torch.cat([pooled, *(branch(x) for branch in self.branches)], dim=1))
        low = self.low(low)
        x = self.decoder(torch.cat([resized(x, low), low], dim=1))
        return resized(self.logits(x), image)


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Resize bilinearly, with aligned corners."""
    return functional.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)


def build(output_stride: int = 16, num_classes: int = 21, middle_blocks: int = 2) -> nn.Module:
    """Build the network."""
    return Network(output_stride, num_classes, middle_blocks)
