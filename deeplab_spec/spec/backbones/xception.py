"""The rows of the modified aligned Xception: table, strides, and the rule for rates."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar, Final

from deeplab_spec.graph.ops import ActivationKind
from deeplab_spec.spec.choices import DOCUMENT, PAPER, PUBLIC, Choices, ChoiceValue, choice, within
from deeplab_spec.spec.layer_choices import (
    IMAGE_CHANNELS,
    backbone_conv,
    backbone_norm,
    check_output_stride,
    padding,
    scaled_channels,
)
from deeplab_spec.spec.rows import BackboneRows, Block, ConvUnit, SeparableUnit, SkipKind
from deeplab_spec.spec.sources import paper

BACKBONE_STD: Final = 0.09
STEM_STRIDE: Final = 2

BASE_CHANNELS: Final = (32, 48, 64, 128, 256, 728, 1024, 1536, 2048)
"""Every channel count of the network at width 1, ascending, without image and classes."""


class ActivationPlacement(StrEnum):
    """The places of the ReLUs in a backbone block."""

    AFTER = "after"
    BEFORE = "before"
    BEFORE_SPLIT = "before_split"


class DepthwiseActivation(StrEnum):
    """Which separable layers of the backbone have a ReLU between their two convolutions."""

    EVERY = "every"
    EXIT2 = "exit2"
    NONE = "none"


class SkipUnit(StrEnum):
    """The layers after the convolution of a skip path."""

    NORM_AND_ACTIVATION = "norm_and_activation"
    NORM = "norm"
    NONE = "none"


class SkipReads(StrEnum):
    """The input of the skip path of a block."""

    INPUT = "input"
    ACTIVATED_INPUT = "activated_input"


class Exit2Input(StrEnum):
    """The input of the second block of the exit flow."""

    SUM = "sum"
    ACTIVATED_SUM = "activated_sum"


class UnstridedRate(StrEnum):
    """The rates of a block whose stride is removed because the output stride is reached."""

    UNCHANGED = "unchanged"
    DOUBLE_LAST = "double_last"
    DOUBLE_ALL = "double_all"
    LOST_LAST = "lost_last"
    KEEP_STRIDE = "keep_stride"


class SkipRate(StrEnum):
    """The rate of the 1x1 convolution of a skip path; it has no effect."""

    ONE = "one"
    AS_LAST_LAYER = "as_last_layer"


class AtrousPadding(StrEnum):
    """The padding of a 3x3 convolution."""

    RATE = "rate"
    ONE = "one"


class LowLevelTap(StrEnum):
    """The value of the entry flow that the decoder takes as its low-level features."""

    BLOCK1 = "block1"
    BLOCK1_OR_STEM = "block1_or_stem"
    BLOCK2_SEPCONV2 = "block2_sepconv2"
    BLOCK2_SEPCONV2_ACTIVATED = "block2_sepconv2_activated"


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class XceptionChoices(Choices):
    """A value for every choice of the family of the modified aligned Xception."""

    family: ClassVar[str] = "xception"
    title: ClassVar[str] = "modified aligned Xception"
    short: ClassVar[Mapping[str, ChoiceValue]] = {"middle_blocks": 1}

    activation_placement: ActivationPlacement = choice("where the ReLUs of a backbone block stand", "sign of block outputs", PUBLIC)
    depthwise_activation: DepthwiseActivation = choice("ReLU between depthwise and pointwise in the backbone", "graph; response to negative inputs", PAPER)
    depthwise_norm: bool = choice("normalisation after a depthwise convolution", "parameter count", PAPER)
    skip_unit: SkipUnit = choice("what follows the convolution of a skip", "minimum of the skip", DOCUMENT)
    skip_reads: SkipReads = choice("what the skip of a block reads", "negative inputs; the input tensor is changed", PUBLIC)
    skip_rate: SkipRate = choice("rate carried by the 1x1 convolution of a skip", "an attribute only", DOCUMENT)
    exit2_input: Exit2Input = choice("what the second exit block reads", "graph; negative sums", PUBLIC)
    unstrided_rate: UnstridedRate = choice("rates of a block that loses its stride", "consistency across output strides", PUBLIC)
    exit2_rates: tuple[int, int] = choice("rates of the second exit block at output strides 16 and 8", "impulse response", PUBLIC, (1, 2), (2, 2), (2, 4))
    atrous_padding: AtrousPadding = choice("padding of an atrous 3x3 convolution of the backbone", "map size", PUBLIC)
    entry_blocks: int = choice("blocks of the entry flow (3, or 5 for the deepest member)", "count", DOCUMENT, 3, 5)
    middle_blocks: int = choice("blocks of the middle flow", "count", PUBLIC, 8, 16)
    low_level_tap: LowLevelTap = choice("which value the decoder reads", "width of the low-level projection; minimum of the tap", PUBLIC)

    def __post_init__(self) -> None:
        Choices.__post_init__(self)
        within("exit2_rates", "rates must be positive", self.exit2_rates, min(self.exit2_rates) >= 1)
        within("entry_blocks", "must be 3 or 5", self.entry_blocks, self.entry_blocks in (3, 5))
        within("middle_blocks", "must be 1 or more", self.middle_blocks, self.middle_blocks >= 1)
        within("middle_blocks", "must be at most 1000", self.middle_blocks, self.middle_blocks <= 1000)  # noqa: PLR2004 - stated in the rule
# fmt: on

    @property
    def base_channels(self) -> tuple[int, ...]:
        """Every channel count of the network at width 1, ascending, without image and classes."""
        return BASE_CHANNELS

    @property
    def activations(self) -> str:
        """Where the activations of the backbone stand."""
        return _CAPTIONS[self.activation_placement]

    def backbone_rows(self, output_stride: int, reported: int | None = None) -> BackboneRows:
        """Return the rows of the backbone."""
        check_output_stride(output_stride)
        channels = scaled_channels(self.base_channels, self.width)
        plans = _plans(self)
        blocks = []
        channels_in = channels[64]
        for plan, geometry in zip(plans, _geometries(self, plans, output_stride), strict=True):
            outs = tuple(channels[out] for out in plan.outs)
            blocks.append(_block(self, plan, geometry, channels_in, outs))
            channels_in = outs[-1]
        low_level, low_level_channels = _low_level(self, plans, output_stride)
        return BackboneRows(
            output_stride=output_stride,
            reported_output_stride=reported or output_stride,
            stem=_stem(self, channels),
            blocks=tuple(blocks),
            low_level=low_level,
            low_level_channels=channels[low_level_channels],
        )


_CAPTIONS = {
    ActivationPlacement.AFTER: "ReLU after every normalised convolution of the backbone",
    ActivationPlacement.BEFORE: "ReLU in front of every separable layer of the backbone but the last block's",
    ActivationPlacement.BEFORE_SPLIT: "normalisation and ReLU in front of every block's two paths",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """A block as printed in the paper's figure.

    Attributes:
        path: Position below ``backbone``.
        outs: Channels after each of its three layers, at width 1.
        stride: Stride of the last layer, unless the output stride is reached.
        skip: The kind of its skip path.
    """

    path: str
    outs: tuple[int, int, int]
    stride: int = 1
    skip: SkipKind = SkipKind.CONV


RELU: Final = ActivationKind.RELU
_FIGURE: Final = paper("figure 4")

# fmt: off
_ENTRY: Final = (
    BlockPlan(path="entry_flow.block1", outs=(128, 128, 128), stride=2),
    BlockPlan(path="entry_flow.block2", outs=(256, 256, 256), stride=2),
    BlockPlan(path="entry_flow.block3", outs=(728, 728, 728), stride=2),
)
_ENTRY_OF_FIVE: Final = (  # the release's xception_71
    BlockPlan(path="entry_flow.block1", outs=(128, 128, 128), stride=2),
    BlockPlan(path="entry_flow.block2", outs=(256, 256, 256)),
    BlockPlan(path="entry_flow.block3", outs=(256, 256, 256), stride=2),
    BlockPlan(path="entry_flow.block4", outs=(728, 728, 728)),
    BlockPlan(path="entry_flow.block5", outs=(728, 728, 728), stride=2),
)
_EXIT: Final = (
    BlockPlan(path="exit_flow.block1", outs=(728, 1024, 1024), stride=2),
    BlockPlan(path="exit_flow.block2", outs=(1536, 1536, 2048), skip=SkipKind.NONE),
)
# fmt: on
_EXIT2: Final = _EXIT[1].path


def _plans(choices: XceptionChoices) -> tuple[BlockPlan, ...]:
    entry = _ENTRY if choices.entry_blocks == len(_ENTRY) else _ENTRY_OF_FIVE
    middle = tuple(
        BlockPlan(path=f"middle_flow.block{number}", outs=(728, 728, 728), skip=SkipKind.IDENTITY)
        for number in range(1, choices.middle_blocks + 1)
    )
    return (*entry, *middle, *_EXIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Geometry:
    """Strides and rates of one block at one output stride."""

    stride: int
    rates: tuple[int, int, int]


def _unstrided(rate: int, rule: UnstridedRate) -> _Geometry:
    match rule:
        case UnstridedRate.UNCHANGED:
            return _Geometry(stride=1, rates=(rate, rate, rate))
        case UnstridedRate.DOUBLE_LAST:
            return _Geometry(stride=1, rates=(rate, rate, 2 * rate))
        case UnstridedRate.DOUBLE_ALL:
            return _Geometry(stride=1, rates=(2 * rate, 2 * rate, 2 * rate))
        case UnstridedRate.LOST_LAST:
            return _Geometry(stride=1, rates=(rate, rate, 1))
        case UnstridedRate.KEEP_STRIDE:
            return _Geometry(stride=2, rates=(rate, rate, 1))


def _geometries(choices: XceptionChoices, plans: tuple[BlockPlan, ...], output_stride: int) -> tuple[_Geometry, ...]:
    """Replace strides beyond the output stride by rates in the blocks after them."""
    geometries = []
    reached = STEM_STRIDE
    rate = 1
    for plan in plans:
        if plan.path == _EXIT2 and output_stride in (8, 16):
            exit_rate = choices.exit2_rates[0 if output_stride == 16 else 1]  # noqa: PLR2004 - the two strides of the choice
            geometries.append(_Geometry(stride=1, rates=(exit_rate, exit_rate, exit_rate)))
        elif plan.stride == 1 or reached < output_stride:
            geometries.append(_Geometry(stride=plan.stride, rates=(rate, rate, rate)))
            reached *= plan.stride
        else:
            geometries.append(_unstrided(rate, choices.unstrided_rate))
            rate *= plan.stride
    return tuple(geometries)


def _conv(choices: XceptionChoices, path: str, channels: tuple[int, int], **numbers: Any) -> ConvUnit:  # noqa: ANN401 - as of backbone_conv
    return backbone_conv(choices, path, channels, std=BACKBONE_STD, source=_FIGURE, **numbers)


def _stem(choices: XceptionChoices, channels: dict[int, int]) -> tuple[ConvUnit, ...]:
    path, first, second = "backbone.entry_flow.stem.conv", channels[32], channels[64]
    return (
        _conv(choices, f"{path}1", (IMAGE_CHANNELS, first), kernel=3, stride=STEM_STRIDE, activation=RELU, first=True),
        _conv(choices, f"{path}2", (first, second), kernel=3, activation=RELU),
    )


def _block(
    choices: XceptionChoices, plan: BlockPlan, geometry: _Geometry, channels_in: int, outs: tuple[int, ...]
) -> Block:
    path = f"backbone.{plan.path}"
    placement = choices.activation_placement
    exit2 = plan.path == _EXIT2
    split = placement is ActivationPlacement.BEFORE_SPLIT and not exit2
    before = placement is not ActivationPlacement.AFTER and not exit2
    units = []
    for number, (unit_in, unit_out, rate) in enumerate(
        zip((channels_in, *outs), outs, geometry.rates, strict=False), start=1
    ):
        units.append(
            _unit(
                choices,
                f"{path}.sepconv{number}",
                (unit_in, unit_out),
                stride=geometry.stride if number == len(outs) else 1,
                rate=rate,
                pre_activation=before and not (split and number == 1),
                exit2=exit2,
            )
        )
    return Block(
        path=path,
        norm=backbone_norm(choices) if split else None,
        activation=split or (exit2 and choices.exit2_input is Exit2Input.ACTIVATED_SUM),
        units=tuple(units),
        skip_kind=plan.skip,
        skip=_skip(choices, path, channels_in, outs[-1], geometry) if plan.skip is SkipKind.CONV else None,
        skip_reads_activation=choices.skip_reads is SkipReads.ACTIVATED_INPUT
        and units[0].pre_activation
        and plan.skip is not SkipKind.NONE,
    )


def _unit(
    choices: XceptionChoices,
    path: str,
    channels: tuple[int, int],
    *,
    stride: int,
    rate: int,
    pre_activation: bool,
    exit2: bool,
) -> SeparableUnit:
    channels_in = channels[0]
    between = choices.depthwise_activation is DepthwiseActivation.EVERY or (
        exit2 and choices.depthwise_activation is DepthwiseActivation.EXIT2
    )
    depthwise = _conv(
        choices,
        f"{path}.depthwise",
        (channels_in, channels_in),
        kernel=3,
        stride=stride,
        rate=rate,
        groups=channels_in,
        activation=RELU if between else None,
    )
    depthwise = replace(
        depthwise,
        padding=padding(choices, 3, stride, rate if choices.atrous_padding is AtrousPadding.RATE else 1),
        norm=depthwise.norm if choices.depthwise_norm else None,
    )
    after = exit2 or choices.activation_placement is ActivationPlacement.AFTER
    pointwise = _conv(choices, f"{path}.pointwise", channels, activation=RELU if after else None)
    return SeparableUnit(path=path, pre_activation=pre_activation, depthwise=depthwise, pointwise=pointwise)


def _skip(choices: XceptionChoices, path: str, channels_in: int, channels_out: int, geometry: _Geometry) -> ConvUnit:
    rate = geometry.rates[-1] if choices.skip_rate is SkipRate.AS_LAST_LAYER else 1
    activation = RELU if choices.skip_unit is SkipUnit.NORM_AND_ACTIVATION else None
    channels = (channels_in, channels_out)
    skip = _conv(choices, f"{path}.skip", channels, stride=geometry.stride, rate=rate, activation=activation)
    return replace(skip, norm=None) if choices.skip_unit is SkipUnit.NONE else skip


def _low_level(choices: XceptionChoices, plans: tuple[BlockPlan, ...], output_stride: int) -> tuple[str, int]:
    """Return the path of the low-level features, and their channels at width 1."""
    strided = [plan for plan in plans if plan.stride > 1]
    first, second = (f"backbone.{plan.path}" for plan in strided[:2])
    match choices.low_level_tap:
        case LowLevelTap.BLOCK1_OR_STEM if output_stride == 8:  # noqa: PLR2004 - "output_stride // 4", read literally
            return "backbone.entry_flow.stem.conv2.activation", 64
        case LowLevelTap.BLOCK1 | LowLevelTap.BLOCK1_OR_STEM:
            return f"{first}.add", 128
        case LowLevelTap.BLOCK2_SEPCONV2:
            return f"{second}.sepconv2.pointwise.norm", 256
        case LowLevelTap.BLOCK2_SEPCONV2_ACTIVATED:
            after = choices.activation_placement is ActivationPlacement.AFTER
            return f"{second}.{'sepconv2.pointwise' if after else 'sepconv3'}.activation", 256
