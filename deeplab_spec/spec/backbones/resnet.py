"""The rows of the residual networks: stems, stages, strides, and the rules for rates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final

from deeplab_spec.graph.network import Source
from deeplab_spec.graph.ops import ActivationKind, Pool, PoolKind
from deeplab_spec.spec.choices import FAMILY, AuxiliaryHead, Choices, ChoiceValue, UnstridedRate, choice, within
from deeplab_spec.spec.layer_choices import (
    HEAD_CHANNELS,
    IMAGE_CHANNELS,
    Strides,
    backbone_conv,
    check_output_stride,
    scaled_channels,
)
from deeplab_spec.spec.rows import BackboneRows, Block, ConvUnit, PoolUnit, SkipKind

RELU: Final = ActivationKind.RELU
STEM_STRIDE: Final = 4
"""Output stride of the stem: a convolution and the max pooling, each with stride 2."""

DEPTHS: Final = (64, 128, 256, 512)
"""Channels of the 3x3 convolutions of the four stages, at width 1."""

EXPANSION: Final = 4
"""A bottleneck has this many times more channels at its end."""

_LAST: Final = 4
_MOST_UNITS: Final = 200
_TABLE: Final = Source(work="arXiv:1512.03385", place="table 1")


class ResidualUnit(StrEnum):
    """The layers of a residual unit: three convolutions with a narrow 3x3, or two 3x3."""

    BOTTLENECK = "bottleneck"
    BASIC = "basic"


class PoolPadding(StrEnum):
    """The margins of the stem's max pooling: one pixel on every side, or as a map's size needs."""

    EXPLICIT = "explicit"
    SAME = "same"


class StridedUnit(StrEnum):
    """The unit of a stage that has its stride."""

    FIRST = "first"
    LAST = "last"


class Shortcut(StrEnum):
    """How a projected skip path subsamples: by the stride of its convolution, or by a mean before it."""

    CONV = "conv"
    AVERAGE_POOL = "average_pool"


class LowLevelTap(StrEnum):
    """The value at stride 4 that the decoder reads."""

    BEFORE_SUM = "before_sum"
    AFTER_STAGE = "after_stage"


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetChoices(Choices):
    """A value for every choice of the family of residual networks."""

    family: ClassVar[str] = "resnet"
    title: ClassVar[str] = "ResNet"
    short: ClassVar[Mapping[str, ChoiceValue]] = {"stage_units": (2, 2, 2, 3)}

    residual_unit: ResidualUnit = choice("the layers of a residual unit", "parameter count", FAMILY)
    stage_units: tuple[int, int, int, int] = choice("units of the four stages", "count", FAMILY, (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 23, 3))
    stem_channels: tuple[int, ...] = choice("channels of the stem's convolutions: one 7x7, or several 3x3", "parameter count", FAMILY, (64,), (64, 64, 128), (32, 32, 64))
    pool_padding: PoolPadding = choice("padding of the stem's max pooling", "even input sizes", FAMILY)
    strided_unit: StridedUnit = choice("the unit of a stage that has its stride", "map sizes inside a stage", FAMILY)
    shortcut: Shortcut = choice("how a projected skip subsamples", "graph; response to a single pixel", FAMILY)
    unstrided_rate: UnstridedRate = choice("rate of a unit that loses its stride", "impulse response", FAMILY)
    multi_grid: tuple[int, ...] = choice("factors of the rates in the last stage; further units have the last", "impulse response", FAMILY, (1, 1, 1), (1, 2, 4))
    low_level_tap: LowLevelTap = choice("which value the decoder reads", "minimum of the tap", FAMILY)
    auxiliary: AuxiliaryHead = choice("a second head on the third stage", "a second result; parameter count", FAMILY)

    def __post_init__(self) -> None:
        Choices.__post_init__(self)
        within("stage_units", "stages must have units", self.stage_units, min(self.stage_units) >= 1)
        within("stage_units", f"stages must have at most {_MOST_UNITS} units", self.stage_units, max(self.stage_units) <= _MOST_UNITS)
        within("stem_channels", "the stem must have a convolution", self.stem_channels, bool(self.stem_channels))
        within("stem_channels", "channels must be positive", self.stem_channels, min(self.stem_channels, default=1) >= 1)
        within("multi_grid", "factors must be positive", self.multi_grid, min(self.multi_grid, default=0) >= 1)
# fmt: on

    @property
    def base_channels(self) -> tuple[int, ...]:
        """Every channel count of the network at width 1, ascending, without image and classes."""
        wide = (EXPANSION * depth for depth in DEPTHS) if self.residual_unit is ResidualUnit.BOTTLENECK else ()
        return tuple(sorted({*HEAD_CHANNELS, *self.stem_channels, *DEPTHS, *wide}))

    @property
    def activations(self) -> str:
        """Where the activations of the backbone stand."""
        return "ReLU after every normalised convolution but a unit's last, and after every sum"

    def backbone_rows(self, output_stride: int, reported: int | None = None) -> BackboneRows:
        """Return the rows of the backbone."""
        check_output_stride(output_stride)
        channels = scaled_channels(self.base_channels, self.width)
        blocks = tuple(_blocks(self, channels, output_stride))
        tap = _tap(self, blocks)
        third = [block for block in blocks if ".layer3." in block.path][-1]
        return BackboneRows(
            output_stride=output_stride,
            reported_output_stride=reported or output_stride,
            stem=tuple(_stem(self, channels)),
            blocks=blocks,
            low_level=tap,
            low_level_channels=blocks[0].channels_out,
            auxiliary=f"{third.path}.activation",
            auxiliary_channels=third.channels_out,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Geometry:
    """One unit: its place, stride and rate."""

    path: str
    stage: int
    stride: int
    rate: int


def _geometries(choices: ResNetChoices, output_stride: int) -> Iterator[_Geometry]:
    """Replace strides beyond the output stride by rates in the units after them."""
    strides = Strides(output_stride=output_stride, rule=choices.unstrided_rate, reached=STEM_STRIDE)
    last = choices.strided_unit is StridedUnit.LAST
    for stage, units in enumerate(choices.stage_units, start=1):
        strided = stage < _LAST if last else stage > 1
        for unit in range(1, units + 1):
            factor = choices.multi_grid[:unit][-1] if stage == _LAST else 1
            stride, rate = strides.next(2 if strided and unit == (units if last else 1) else 1)
            yield _Geometry(path=f"layer{stage}.block{unit}", stage=stage, stride=stride, rate=rate * factor)


def _stem(choices: ResNetChoices, channels: dict[int, int]) -> Iterator[ConvUnit | PoolUnit]:
    kernel = 7 if len(choices.stem_channels) == 1 else 3
    channels_in = IMAGE_CHANNELS
    for number, base in enumerate(choices.stem_channels, start=1):
        path, stride = f"backbone.stem.conv{number}", 2 if number == 1 else 1
        yield _conv(choices, path, (channels_in, channels[base]), kernel=kernel, stride=stride, first=number == 1)
        channels_in = channels[base]
    same = choices.pool_padding is PoolPadding.SAME
    op = Pool(kind=PoolKind.MAX, kernel=(3, 3), stride=(2, 2), padding="same" if same else (1, 1, 1, 1))
    yield PoolUnit(path="backbone.stem.pool", op=op, source=_TABLE)


def _blocks(choices: ResNetChoices, channels: dict[int, int], output_stride: int) -> Iterator[Block]:
    channels_in = channels[choices.stem_channels[-1]]
    for place in _geometries(choices, output_stride):
        depth = DEPTHS[place.stage - 1]
        wide = EXPANSION * depth if choices.residual_unit is ResidualUnit.BOTTLENECK else depth
        block = _block(choices, place, channels_in, channels[depth], channels[wide])
        channels_in = block.channels_out
        yield block


def _block(choices: ResNetChoices, place: _Geometry, channels_in: int, depth: int, channels_out: int) -> Block:
    path = f"backbone.{place.path}"
    stride, rate = place.stride, place.rate
    if choices.residual_unit is ResidualUnit.BOTTLENECK:
        units: tuple[ConvUnit, ...] = (
            _conv(choices, f"{path}.conv1", (channels_in, depth)),
            _conv(choices, f"{path}.conv2", (depth, depth), kernel=3, stride=stride, rate=rate),
            _conv(choices, f"{path}.conv3", (depth, channels_out), activation=None),
        )
    else:
        units = (
            _conv(choices, f"{path}.conv1", (channels_in, depth), kernel=3, stride=stride, rate=rate),
            _conv(choices, f"{path}.conv2", (depth, channels_out), kernel=3, rate=rate, activation=None),
        )
    projected = channels_in != channels_out or (stride > 1 and choices.strided_unit is StridedUnit.FIRST)
    pooled = stride > 1 and not (projected and choices.shortcut is Shortcut.CONV)
    skip_stride = 1 if pooled else stride
    return Block(
        path=path,
        units=units,
        skip_kind=SkipKind.CONV if projected else SkipKind.IDENTITY,
        skip_pool=_skip_pool(f"{path}.skip.pool", stride, mean=projected) if pooled else None,
        skip=_conv(choices, f"{path}.skip", (channels_in, channels_out), stride=skip_stride, activation=None)
        if projected
        else None,
        after=RELU,
    )


def _skip_pool(path: str, stride: int, *, mean: bool) -> PoolUnit:
    """Return the pooling of a skip path: the mean of a window before a convolution, or every other pixel."""
    if mean:
        window = (stride, stride)
        op = Pool(kind=PoolKind.AVERAGE, kernel=window, stride=window, ceil_mode=True, count_margin=False)
    else:
        op = Pool(kind=PoolKind.MAX, kernel=(1, 1), stride=(stride, stride))
    return PoolUnit(path=path, op=op, source=_TABLE)


def _conv(
    choices: ResNetChoices,
    path: str,
    channels: tuple[int, int],
    *,
    activation: ActivationKind | None = RELU,
    **numbers: Any,  # noqa: ANN401 - as of backbone_conv
) -> ConvUnit:
    return backbone_conv(choices, path, channels, activation=activation, source=_TABLE, **numbers)


def _tap(choices: ResNetChoices, blocks: tuple[Block, ...]) -> str:
    """Return the path of the last value at stride 4: of the first stage, without a unit that subsamples."""
    stage = [block for block in blocks if ".layer1." in block.path]
    if choices.strided_unit is StridedUnit.LAST and len(stage) > 1:
        stage = stage[:-1]
    if choices.low_level_tap is LowLevelTap.AFTER_STAGE:
        return f"{stage[-1].path}.activation"
    return f"{stage[-1].units[-1].path}.norm"
