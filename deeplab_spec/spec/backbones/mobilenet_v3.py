"""The rows of MobileNetV3: inverted residual units with gates, hard swish, and the rule for rates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from deeplab_spec.graph.network import Source
from deeplab_spec.graph.ops import ActivationKind
from deeplab_spec.spec.backbones.mobilenet_v2 import LowLevelTap, tapped_value
from deeplab_spec.spec.choices import FAMILY, AuxiliaryHead, Choices, ChoiceValue, UnstridedRate, choice
from deeplab_spec.spec.layer_choices import (
    HEAD_CHANNELS,
    IMAGE_CHANNELS,
    Strides,
    backbone_conv,
    check_output_stride,
    gate,
    rounded_channels,
    scaled_channels,
)
from deeplab_spec.spec.rows import BackboneRows, Block, ConvUnit, SkipKind, Unit

RELU: Final = ActivationKind.RELU
SWISH: Final = ActivationKind.HARDSWISH
STEM_CHANNELS: Final = 16
STEM_STRIDE: Final = 2
LAST_CHANNELS: Final = 960
SQUEEZE: Final = 4
"""A gate has this many times fewer channels between its convolutions, rounded to a multiple of :data:`DIVISOR`."""

DIVISOR: Final = 8


class Layer(NamedTuple):
    """A line of the published table."""

    kernel: int
    wide: int
    channels: int
    gated: bool
    activation: ActivationKind
    stride: int


LARGE: Final = tuple(
    Layer(*line)
    for line in (
        (3, 16, 16, False, RELU, 1),
        (3, 64, 24, False, RELU, 2),
        (3, 72, 24, False, RELU, 1),
        (5, 72, 40, True, RELU, 2),
        (5, 120, 40, True, RELU, 1),
        (5, 120, 40, True, RELU, 1),
        (3, 240, 80, False, SWISH, 2),
        (3, 200, 80, False, SWISH, 1),
        (3, 184, 80, False, SWISH, 1),
        (3, 184, 80, False, SWISH, 1),
        (3, 480, 112, True, SWISH, 1),
        (3, 672, 112, True, SWISH, 1),
        (5, 672, 160, True, SWISH, 2),
        (5, 960, 160, True, SWISH, 1),
        (5, 960, 160, True, SWISH, 1),
    )
)
"""The units of the large network."""

_TAPPED: Final = 3
_AUXILIARY: Final = 4
"""The units, from 1, whose values a decoder and an auxiliary head read."""

_TABLE: Final = Source(work="arXiv:1905.02244", place="table 1")


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class MobileNetV3Choices(Choices):
    """A value for every choice of the family of MobileNetV3."""

    family: ClassVar[str] = "mobilenet_v3"
    title: ClassVar[str] = "MobileNetV3"
    short: ClassVar[Mapping[str, ChoiceValue]] = {}

    unstrided_rate: UnstridedRate = choice("rate of a unit that loses its stride", "impulse response", FAMILY)
    low_level_tap: LowLevelTap = choice("which value a decoder reads", "width of the low-level projection", FAMILY)
    auxiliary: AuxiliaryHead = choice("a second head on the fourth unit", "a second result; parameter count", FAMILY)
# fmt: on

    @property
    def base_channels(self) -> tuple[int, ...]:
        """Every channel count of the network at width 1, ascending, without image and classes."""
        squeezed = (_squeezed(layer) for layer in LARGE if layer.gated)
        units = (channels for layer in LARGE for channels in (layer.wide, layer.channels))
        return tuple(sorted({*HEAD_CHANNELS, STEM_CHANNELS, LAST_CHANNELS, *squeezed, *units}))

    @property
    def activations(self) -> str:
        """Where the activations of the backbone stand."""
        return "ReLU, from block 7 on hard swish, after every normalised convolution of the backbone but a unit's last"

    def backbone_rows(self, output_stride: int, reported: int | None = None) -> BackboneRows:
        """Return the rows of the backbone."""
        check_output_stride(output_stride)
        channels = scaled_channels(self.base_channels, self.width)
        ends = (IMAGE_CHANNELS, channels[STEM_CHANNELS])
        first = _conv(self, "backbone.stem.conv1", ends, kernel=3, stride=STEM_STRIDE, activation=SWISH, first=True)
        blocks = tuple(_blocks(self, channels, output_stride))
        tapped, second = blocks[_TAPPED - 1], blocks[_AUXILIARY - 1]
        low_level, low_level_channels = tapped_value(self.low_level_tap, tapped)
        path, ends = f"backbone.block{len(LARGE) + 1}", (blocks[-1].channels_out, channels[LAST_CHANNELS])
        last = _conv(self, f"{path}.conv1", ends, activation=SWISH)
        return BackboneRows(
            output_stride=output_stride,
            reported_output_stride=reported or output_stride,
            stem=(first,),
            blocks=(*blocks, Block(path=path, units=(last,), skip_kind=SkipKind.NONE)),
            low_level=low_level,
            low_level_channels=low_level_channels,
            auxiliary=f"{second.path}.projection.norm",
            auxiliary_channels=second.channels_out,
        )


def _squeezed(layer: Layer) -> int:
    return rounded_channels(layer.wide // SQUEEZE, DIVISOR)


def _blocks(choices: MobileNetV3Choices, channels: dict[int, int], output_stride: int) -> Iterator[Block]:
    """Yield the units; strides beyond the output stride are replaced by rates."""
    strides = Strides(output_stride=output_stride, rule=choices.unstrided_rate, reached=STEM_STRIDE)
    before = STEM_CHANNELS
    for number, layer in enumerate(LARGE, start=1):
        path = f"backbone.block{number}"
        yield Block(
            path=path,
            units=tuple(_units(choices, path, layer, before, channels, strides.next(layer.stride))),
            skip_kind=SkipKind.IDENTITY if layer.stride == 1 and before == layer.channels else SkipKind.NONE,
        )
        before = layer.channels


def _units(
    choices: MobileNetV3Choices,
    path: str,
    layer: Layer,
    before: int,
    channels: dict[int, int],
    place: tuple[int, int],
) -> Iterator[Unit]:
    """Yield the layers of a unit that has a stride and a rate; the first has no expansion."""
    stride, rate = place
    wide = channels[layer.wide]
    if layer.wide != before:
        yield _conv(choices, f"{path}.expansion", (channels[before], wide), activation=layer.activation)
    yield _conv(
        choices,
        f"{path}.depthwise",
        (wide, wide),
        kernel=layer.kernel,
        stride=stride,
        rate=rate,
        groups=wide,
        activation=layer.activation,
    )
    if layer.gated:
        squeezed = channels[_squeezed(layer)]
        factor = ActivationKind.HARDSIGMOID
        yield gate(choices, f"{path}.gate", wide, squeezed, factor=factor, source=_TABLE)
    yield _conv(choices, f"{path}.projection", (wide, channels[layer.channels]))


def _conv(choices: MobileNetV3Choices, path: str, channels: tuple[int, int], **numbers: Any) -> ConvUnit:  # noqa: ANN401 - as of backbone_conv
    return backbone_conv(choices, path, channels, source=_TABLE, **numbers)
