"""A port of the authors' release as people write it: one file of plain PyTorch, right or with the usual mistakes.

Nothing here is the specification's but the rule that makes a network narrow. The mistakes are those of
facts that are known of a widely copied port, whose full size is 54,705,317 parameters:

* the decoder reads the sum of the first entry block, of 128 channels;
* from the third block on, a block begins with a ReLU that works in place, so its skip reads what the ReLU
  left of its input; the second block's ReLU does not, so the decoder's features stay what they were;
* at output stride 8, the last layer of the first exit block has lost its dilation;
* one more ReLU stands before the second exit block;
* every normalisation has the framework's eps, 1e-5.

Right or wrong, it drops out in the head and has the framework's momentum, which no evaluation shows, and
joins the pyramid's branches in an order of its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.spec.backbones.xception import BASE_CHANNELS
from deeplab_spec.spec.layer_choices import scaled_channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistakes:
    """What a port does otherwise than the release.

    Attributes:
        tap_of_block1: The decoder reads the first entry block's sum.
        in_place_from: Number of the first of the twenty blocks that overwrites its input; None for none.
        loses_dilation: The last layer of an exit block that loses its stride has no dilation.
        relu_before_exit2: One more ReLU stands before the last three layers.
        eps: Of the backbone's normalisations.
    """

    tap_of_block1: bool = False
    in_place_from: int | None = None
    loses_dilation: bool = False
    relu_before_exit2: bool = False
    eps: float = 1e-3


USUAL = Mistakes(tap_of_block1=True, in_place_from=3, loses_dilation=True, relu_before_exit2=True, eps=1e-5)


class SeparableConv2d(nn.Module):
    """A depthwise convolution, padded first, and a pointwise one."""

    def __init__(self, inplanes: int, planes: int, stride: int, dilation: int, eps: float, *, relu: bool) -> None:
        super().__init__()
        self.padding = dilation
        self.conv1 = nn.Conv2d(inplanes, inplanes, 3, stride, 0, dilation, groups=inplanes, bias=False)
        self.bn = nn.BatchNorm2d(inplanes, eps=eps)
        self.relu = nn.ReLU(inplace=True) if relu else None
        self.pointwise = nn.Conv2d(inplanes, planes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        x = functional.pad(x, (self.padding, self.padding, self.padding, self.padding))
        x = self.bn(self.conv1(x))
        if self.relu is not None:
            x = self.relu(x)
        return self.pointwise(x)


class Block(nn.Module):
    """Three separable convolutions beside a skip."""

    def __init__(
        self, inplanes: int, planes: tuple[int, int, int], stride: int, dilations: tuple[int, int, int], eps: float
    ) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.skip: nn.Sequential | None = None
        if planes[-1] != inplanes:
            conv = nn.Conv2d(inplanes, planes[-1], 1, stride, bias=False)
            self.skip = nn.Sequential(conv, nn.BatchNorm2d(planes[-1], eps=eps))
        widths = (inplanes, *planes)
        strides = (1, 1, stride)
        self.layers = nn.ModuleList(
            nn.Sequential(
                SeparableConv2d(widths[i], widths[i + 1], strides[i], dilations[i], eps, relu=False),
                nn.BatchNorm2d(widths[i + 1], eps=eps),
            )
            for i in range(3)
        )

    def forward(self, inp: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum, and the value after the second layer."""
        x = self.layers[0](self.relu(inp))
        second = self.layers[1](functional.relu(x))
        x = self.layers[2](functional.relu(second))
        skip = inp if self.skip is None else self.skip(inp)
        x += skip
        return x, second


class AlignedXception(nn.Module):
    """The backbone: two convolutions, twenty blocks, and three layers without a skip."""

    def __init__(self, output_stride: int, channels: dict[int, int], mistakes: Mistakes) -> None:
        super().__init__()
        eps = mistakes.eps
        strided = {16: (2, 1), 8: (1, 1)}[output_stride]
        middle_dilation, exit_dilations = {16: (1, (1, 2)), 8: (2, (2, 4))}[output_stride]
        self.tap_of_block1 = mistakes.tap_of_block1
        self.relu_before_exit2 = mistakes.relu_before_exit2
        c = channels

        self.conv1 = nn.Conv2d(3, c[32], 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c[32], eps=eps)
        self.conv2 = nn.Conv2d(c[32], c[64], 3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c[64], eps=eps)
        self.relu = nn.ReLU(inplace=True)

        first = exit_dilations[0]
        last = 1 if mistakes.loses_dilation else first
        ones = (1, 1, 1)
        blocks = [
            Block(c[64], (c[128],) * 3, 2, ones, eps),
            Block(c[128], (c[256],) * 3, 2, ones, eps),
            Block(c[256], (c[728],) * 3, strided[0], ones, eps),
            *(Block(c[728], (c[728],) * 3, 1, (middle_dilation,) * 3, eps) for _ in range(16)),
            Block(c[728], (c[728], c[1024], c[1024]), strided[1], (first, first, last), eps),
        ]
        if mistakes.in_place_from is not None:
            for block in blocks[mistakes.in_place_from - 1 :]:
                block.relu = nn.ReLU(inplace=True)
        self.blocks = nn.ModuleList(blocks)

        dilation = exit_dilations[1]
        self.conv3 = SeparableConv2d(c[1024], c[1536], 1, dilation, eps, relu=True)
        self.bn3 = nn.BatchNorm2d(c[1536], eps=eps)
        self.conv4 = SeparableConv2d(c[1536], c[1536], 1, dilation, eps, relu=True)
        self.bn4 = nn.BatchNorm2d(c[1536], eps=eps)
        self.conv5 = SeparableConv2d(c[1536], c[2048], 1, dilation, eps, relu=True)
        self.bn5 = nn.BatchNorm2d(c[2048], eps=eps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and those that the decoder reads."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x, _ = self.blocks[0](x)
        low_level_feat = x
        x, second = self.blocks[1](x)
        if not self.tap_of_block1:
            low_level_feat = second
        for block in self.blocks[2:]:
            x, _ = block(x)
        if self.relu_before_exit2:
            x = self.relu(x)
        x = self.relu(self.bn3(self.conv3(x)))
        x = self.relu(self.bn4(self.conv4(x)))
        x = self.relu(self.bn5(self.conv5(x)))
        return x, low_level_feat


class ASPPModule(nn.Sequential):
    """A convolution, its normalisation and a ReLU."""

    def __init__(self, inplanes: int, planes: int, kernel_size: int = 1, dilation: int = 1) -> None:
        padding = 0 if kernel_size == 1 else dilation
        super().__init__(
            nn.Conv2d(inplanes, planes, kernel_size, 1, padding, dilation, bias=False),
            nn.BatchNorm2d(planes),
            nn.ReLU(inplace=True),
        )


class ASPP(nn.Module):
    """The pyramid."""

    def __init__(self, output_stride: int, channels: dict[int, int]) -> None:
        super().__init__()
        rates = {16: (6, 12, 18), 8: (12, 24, 36)}[output_stride]
        inplanes, planes = channels[2048], channels[256]
        self.aspp1 = ASPPModule(inplanes, planes)
        self.aspp2, self.aspp3, self.aspp4 = (ASPPModule(inplanes, planes, 3, rate) for rate in rates)
        self.global_avg_pool = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), *ASPPModule(inplanes, planes))
        self.project = ASPPModule(5 * planes, planes)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of all rates together."""
        pooled = functional.interpolate(self.global_avg_pool(x), x.shape[2:], mode="bilinear", align_corners=True)
        x = torch.cat((self.aspp1(x), self.aspp2(x), self.aspp3(x), self.aspp4(x), pooled), dim=1)
        return self.dropout(self.project(x))


class Decoder(nn.Module):
    """Two dense convolutions on the pyramid's result beside features of the entry flow."""

    def __init__(self, num_classes: int, low_level_inplanes: int, channels: dict[int, int]) -> None:
        super().__init__()
        planes, low = channels[256], channels[48]
        self.reduce = ASPPModule(low_level_inplanes, low)
        self.last_conv = nn.Sequential(
            ASPPModule(planes + low, planes, 3),
            nn.Dropout(0.5),
            ASPPModule(planes, planes, 3),
            nn.Dropout(0.1),
            nn.Conv2d(planes, num_classes, 1),
        )

    def forward(self, x: Tensor, low_level_feat: Tensor) -> Tensor:
        """Return the scores of every class."""
        low_level_feat = self.reduce(low_level_feat)
        x = functional.interpolate(x, low_level_feat.shape[2:], mode="bilinear", align_corners=True)
        return self.last_conv(torch.cat((x, low_level_feat), dim=1))


class DeepLab(nn.Module):
    """The whole network."""

    def __init__(self, output_stride: int, num_classes: int, width: float, mistakes: Mistakes) -> None:
        super().__init__()
        channels = scaled_channels(BASE_CHANNELS, width)
        self.backbone = AlignedXception(output_stride, channels, mistakes)
        self.aspp = ASPP(output_stride, channels)
        self.decoder = Decoder(num_classes, channels[128 if mistakes.tap_of_block1 else 256], channels)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of every pixel."""
        x, low_level_feat = self.backbone(image)
        x = self.decoder(self.aspp(x), low_level_feat)
        return functional.interpolate(x, image.shape[2:], mode="bilinear", align_corners=True)


def build(output_stride: int = 16, num_classes: int = 21, width: float = 1.0, mistakes: Mistakes = USUAL) -> nn.Module:
    """Build the port with its mistakes."""
    return DeepLab(output_stride, num_classes, width, mistakes)


def build_right(output_stride: int = 16, num_classes: int = 21, width: float = 1.0) -> nn.Module:
    """Build the port as it was meant."""
    return build(output_stride, num_classes, width, Mistakes())
