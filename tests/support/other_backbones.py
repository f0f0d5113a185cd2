"""Whole networks with a head of this family on backbones of no family: inverted residuals with gates, and attention."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.reference.aspp import Aspp
from deeplab_spec.reference.decoder import Decoder
from deeplab_spec.spec.choices import ChoiceValue, choose
from deeplab_spec.spec.network import rows
from deeplab_spec.spec.variants import TF_RELEASE, Variant

NARROW = 0.0625
FEATURES, LOW_LEVEL = 40, 12


class Gate(nn.Module):
    """Multiplies every channel by a number that depends on the average of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated values."""
        mean = functional.silu(self.reduce(functional.adaptive_avg_pool2d(x, 1)))
        return x * torch.sigmoid(self.expand(mean))


def gated(channels: int, out: int, stride: int, rate: int = 1) -> nn.Module:
    """Return an inverted residual without a skip."""
    wide = 2 * channels
    depthwise = nn.Conv2d(wide, wide, 3, stride, padding=rate, dilation=rate, groups=wide, bias=False)
    first = (nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU())
    return nn.Sequential(
        *first, depthwise, nn.BatchNorm2d(wide), nn.SiLU(), Gate(wide), nn.Conv2d(wide, out, 1), nn.BatchNorm2d(out)
    )


class Gated(nn.Module):
    """A backbone of inverted residuals with gates, at output stride 16."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.early = gated(8, LOW_LEVEL, 2)
        self.late = nn.Sequential(gated(LOW_LEVEL, 16, 2), gated(16, 24, 2), gated(24, FEATURES, 1, 2))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and low-level values."""
        low_level = self.early(self.stem(image))
        return self.late(low_level), low_level


class Attention(nn.Module):
    """A backbone of patches and attention, channels last, with operations that no graph of this package knows."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.merged = nn.Conv2d(3, LOW_LEVEL, 4, 4), nn.Conv2d(LOW_LEVEL, FEATURES, 4, 4)
        self.early, self.late = nn.LayerNorm(LOW_LEVEL), nn.LayerNorm(FEATURES)
        self.attention = nn.MultiheadAttention(FEATURES, 2, batch_first=True)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and low-level values."""
        height, width = image.shape[2:]
        x = self.patches(functional.pad(image, (0, -width % 16, 0, -height % 16)))
        low_level = self.early(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.merged(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.late(tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0])
        return tokens.transpose(1, 2).reshape(x.shape), low_level


class OnOther(nn.Module):
    """A backbone with the head of a published network, narrow.

    Args:
        backbone: The backbone.
        variant: The network whose head it has.
        choices: Choices of the head that differ.
    """

    def __init__(self, backbone: nn.Module, variant: Variant = TF_RELEASE, **choices: ChoiceValue) -> None:
        super().__init__()
        table = rows(choose(variant.choices, {"width": NARROW, **choices}), 16, 21, reads=(FEATURES, LOW_LEVEL))
        self.encoder = backbone
        self.pyramid, self.segment = Aspp(table.aspp), Decoder(table.decoder)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits at the size of the image."""
        features, low_level = self.encoder(image)
        logits = self.segment(self.pyramid(features), low_level)
        return functional.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=True)
