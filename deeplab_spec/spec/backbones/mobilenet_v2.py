"""The rows of MobileNetV2: inverted residual units, the depth multiplier, and the rule for rates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final

from deeplab_spec.graph.network import Source
from deeplab_spec.graph.ops import ActivationKind
from deeplab_spec.spec.choices import FAMILY, Choices, ChoiceValue, UnstridedRate, choice, within
from deeplab_spec.spec.layer_choices import (
    HEAD_CHANNELS,
    IMAGE_CHANNELS,
    Strides,
    backbone_conv,
    check_output_stride,
    rounded_channels,
    scaled_channels,
)
from deeplab_spec.spec.rows import BackboneRows, Block, ConvUnit, SkipKind

RELU6: Final = ActivationKind.RELU6
STEM_CHANNELS: Final = 32
STEM_STRIDE: Final = 2
EXPANSION: Final = 6
BACKBONE_STD: Final = 0.09

STAGES: Final = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""For every stage its channels, its units, and the stride of its first unit."""

_TABLE: Final = Source(work="arXiv:1801.04381", place="table 2")


class LowLevelTap(StrEnum):
    """The value at stride 4 that a decoder reads: inside the last unit, or its result."""

    DEPTHWISE = "depthwise"
    UNIT = "unit"


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class MobileNetV2Choices(Choices):
    """A value for every choice of the family of MobileNetV2."""

    family: ClassVar[str] = "mobilenet_v2"
    title: ClassVar[str] = "MobileNetV2"
    short: ClassVar[Mapping[str, ChoiceValue]] = {}

    depth_multiplier: float = choice("multiplier of the backbone's channel counts", "channel counts", FAMILY, 1.0, 0.5)
    channel_divisor: int = choice("channel counts of the backbone are multiples of it", "channel counts", FAMILY, 8, 1)
    unstrided_rate: UnstridedRate = choice("rate of a unit that loses its stride", "impulse response", FAMILY)
    low_level_tap: LowLevelTap = choice("which value a decoder reads", "width of the low-level projection", FAMILY)

    def __post_init__(self) -> None:
        Choices.__post_init__(self)
        within("depth_multiplier", "must be above 0 and at most 4", self.depth_multiplier, 0 < self.depth_multiplier <= 4)  # noqa: PLR2004 - stated in the rule
        within("channel_divisor", "must be from 1 to 64", self.channel_divisor, 1 <= self.channel_divisor <= 64)  # noqa: PLR2004 - stated in the rule
# fmt: on

    @property
    def base_channels(self) -> tuple[int, ...]:
        """Every channel count of the network at width 1, ascending, without image and classes."""
        narrow = [_multiplied(self, channels) for channels, _, _ in STAGES]
        stem = _multiplied(self, STEM_CHANNELS)
        return tuple(sorted({*HEAD_CHANNELS, stem, *narrow, *(EXPANSION * channels for channels in narrow)}))

    @property
    def activations(self) -> str:
        """Where the activations of the backbone stand."""
        return "ReLU6 after every normalised convolution of the backbone but a unit's last"

    def backbone_rows(self, output_stride: int, reported: int | None = None) -> BackboneRows:
        """Return the rows of the backbone."""
        check_output_stride(output_stride)
        channels = scaled_channels(self.base_channels, self.width)
        ends = (IMAGE_CHANNELS, channels[_multiplied(self, STEM_CHANNELS)])
        first = _conv(self, "backbone.stem.conv1", ends, kernel=3, stride=STEM_STRIDE, activation=RELU6, first=True)
        blocks = tuple(_blocks(self, channels, output_stride))
        tapped = blocks[STAGES[0][1] + STAGES[1][1] - 1]
        low_level, low_level_channels = tapped_value(self.low_level_tap, tapped)
        return BackboneRows(
            output_stride=output_stride,
            reported_output_stride=reported or output_stride,
            stem=(first,),
            blocks=blocks,
            low_level=low_level,
            low_level_channels=low_level_channels,
        )


def tapped_value(tap: LowLevelTap, unit: Block) -> tuple[str, int]:
    """Return the path and the channels of the value that a decoder reads of a unit."""
    if tap is LowLevelTap.DEPTHWISE:
        return f"{unit.path}.depthwise.activation", unit.convolutions[1].channels_out
    return f"{unit.path}.add", unit.channels_out


def _multiplied(choices: MobileNetV2Choices, channels: int) -> int:
    """Return a channel count under the depth multiplier."""
    return rounded_channels(channels * choices.depth_multiplier, choices.channel_divisor)


def _blocks(choices: MobileNetV2Choices, channels: dict[int, int], output_stride: int) -> Iterator[Block]:
    """Yield the units; strides beyond the output stride are replaced by rates."""
    strides = Strides(output_stride=output_stride, rule=choices.unstrided_rate, reached=STEM_STRIDE)
    number, before = 0, _multiplied(choices, STEM_CHANNELS)
    for base, units, stage_stride in STAGES:
        after = _multiplied(choices, base)
        for unit in range(units):
            number += 1
            published = stage_stride if unit == 0 else 1
            stride, rate = strides.next(published)
            wide = channels[EXPANSION * before] if number > 1 else channels[before]
            path = f"backbone.block{number}"
            expansion = _conv(choices, f"{path}.expansion", (channels[before], wide), activation=RELU6)
            depthwise = _conv(
                choices,
                f"{path}.depthwise",
                (wide, wide),
                kernel=3,
                stride=stride,
                rate=rate,
                groups=wide,
                activation=RELU6,
            )
            projection = _conv(choices, f"{path}.projection", (wide, channels[after]))
            yield Block(
                path=path,
                units=(expansion, depthwise, projection) if number > 1 else (depthwise, projection),
                skip_kind=SkipKind.IDENTITY if published == 1 and before == after else SkipKind.NONE,
            )
            before = after


def _conv(choices: MobileNetV2Choices, path: str, channels: tuple[int, int], **numbers: Any) -> ConvUnit:  # noqa: ANN401 - as of backbone_conv
    return backbone_conv(choices, path, channels, std=BACKBONE_STD, source=_TABLE, **numbers)
