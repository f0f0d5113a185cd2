"""The rows of the pyramid and the decoder."""

from dataclasses import replace
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Source
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.choices import (
    AsppOrder,
    Choices,
    Decoder,
    DecoderConvs,
    DecoderOrder,
    HeadConvs,
    LogitsConv,
    PoolNorm,
    Projection,
)
from deeplab_spec.spec.layer_choices import head_conv, head_separable, initial, scaled_channels
from deeplab_spec.spec.rows import AsppRows, AuxiliaryRows, ConvUnit, DecoderRows, HeadUnit, same_size
from deeplab_spec.spec.sources import DEEPLAB_V3, library, paper, release

BASE_RATES: Final = (6, 12, 18)
BASE_OUTPUT_STRIDE: Final = 16
LOGITS_STD: Final = 0.01

CELL: Final[tuple[tuple[int | None, Pair], ...]] = (
    (None, (1, 6)),
    (0, (18, 15)),
    (1, (6, 3)),
    (0, (1, 1)),
    (0, (6, 21)),
)
"""The dense prediction cell: the branch that each branch reads, and its rates at output stride 16."""

_AUXILIARY_DROPOUT: Final = 0.1
_AUXILIARY_DEPTH: Final = 4
"""The auxiliary head has this many times fewer channels than it reads."""

_PYRAMID: Final = Source(work=DEEPLAB_V3, place="section 3.3")
_DECODER: Final = paper("section 3.2 and figure 2")
_LOGITS: Final = release("model.py, logits")
_CELL: Final = release("core/dense_prediction_cell.py")
_AUXILIARY: Final = library("torchvision", "models/segmentation/fcn.py")


def aspp_rates(choices: Choices, output_stride: int) -> tuple[int, ...]:
    """Return the rates of the pyramid's 3x3 branches.

    >>> from deeplab_spec.spec.variants import TF_RELEASE
    >>> [aspp_rates(TF_RELEASE.choices, stride) for stride in (8, 16, 32)]
    [(12, 24, 36), (6, 12, 18), (3, 6, 9)]
    """
    if isinstance(choices.aspp_rates, str):
        return tuple(rate * BASE_OUTPUT_STRIDE // output_stride for rate in BASE_RATES)
    return choices.aspp_rates


def aspp_rows(choices: Choices, output_stride: int, features: int) -> AsppRows:
    """Return the rows of the pyramid, for features at an output stride with some number of channels."""
    depth = _channels(choices)[256]
    cell = choices.aspp_convs is HeadConvs.DENSE_PREDICTION_CELL
    atrous = (
        _cell(choices, output_stride, features, depth) if cell else _atrous(choices, output_stride, features, depth)
    )
    branches = len(atrous) if cell else len(atrous) + 2
    kernel = 3 if choices.projection is Projection.K3 else 1
    return AsppRows(
        conv1x1=None if cell else head_conv(choices, "aspp.conv1x1", features, depth, source=_PYRAMID),
        atrous=atrous,
        inputs=tuple(source for source, _ in CELL) if cell else (None,) * len(atrous),
        pool=None if cell else _pool(choices, features, depth),
        pool_resize=choices.pool_resize,
        pool_first=choices.aspp_order is AsppOrder.POOL_FIRST,
        projection=head_conv(choices, "aspp.projection", branches * depth, depth, kernel=kernel, source=_PYRAMID),
        dropout=choices.aspp_dropout,
        dropout_first=cell,
        refinement=_refinement(choices, depth),
    )


def _channels(choices: Choices) -> dict[int, int]:
    return scaled_channels(choices.base_channels, choices.width)


def _atrous(choices: Choices, output_stride: int, features: int, depth: int) -> tuple[HeadUnit, ...]:
    """Return the 3x3 branches of the pyramid."""
    rows: list[HeadUnit] = []
    for number, rate in enumerate(aspp_rates(choices, output_stride), start=1):
        path = f"aspp.atrous{number}"
        if choices.aspp_convs is HeadConvs.DENSE:
            rows.append(head_conv(choices, path, features, depth, kernel=3, rate=rate, source=_PYRAMID))
        else:
            between = choices.aspp_depthwise
            rows.append(head_separable(choices, path, features, depth, between=between, rate=rate, source=_PYRAMID))
    return tuple(rows)


def _cell(choices: Choices, output_stride: int, features: int, depth: int) -> tuple[HeadUnit, ...]:
    """Return the branches of the dense prediction cell; its rates follow the output stride."""
    rows = []
    for number, (source, rates) in enumerate(CELL, start=1):
        vertical, horizontal = (max(1, rate * BASE_OUTPUT_STRIDE // output_stride) for rate in rates)
        rows.append(
            head_separable(
                choices,
                f"aspp.atrous{number}",
                features if source is None else depth,
                depth,
                between=choices.aspp_depthwise,
                rate=(vertical, horizontal),
                source=_CELL,
            )
        )
    return tuple(rows)


def _refinement(choices: Choices, depth: int) -> HeadUnit | None:
    """Return the 3x3 unit after the projection, or None."""
    if choices.projection is Projection.K1_THEN_SEPARABLE:
        between = choices.aspp_depthwise
        return head_separable(choices, "aspp.refinement", depth, depth, between=between, source=_PYRAMID)
    if choices.projection is Projection.K1_THEN_DENSE:
        return head_conv(choices, "aspp.refinement", depth, depth, kernel=3, source=_PYRAMID)
    return None


def _pool(choices: Choices, features: int, depth: int) -> ConvUnit:
    conv = head_conv(choices, "aspp.pool", features, depth, source=_PYRAMID)
    return conv if choices.pool_norm is PoolNorm.NORM else replace(conv, bias=True, norm=None)


MOST_CLASSES: Final = 1_000_000
"""No network of this family has more; a larger number is a mistake."""


def check_classes(classes: int, name: str = "classes") -> None:
    """Check a number of classes.

    Raises:
        SpecError: If there is none, or there are more than any network has.
    """
    if classes < 1:
        raise SpecError(name, "must be 1 or more", classes)
    if classes > MOST_CLASSES:
        raise SpecError(name, f"must be at most {MOST_CLASSES:,}", classes)


def decoder_rows(choices: Choices, low_level_channels: int, classes: int) -> DecoderRows:
    """Return the rows of the decoder, for low-level features with some number of channels."""
    check_classes(classes, "num_classes")
    channels = _channels(choices)
    reads_low_level = choices.decoder is Decoder.LOW_LEVEL
    low_level = head_conv(choices, "decoder.low_level", low_level_channels, channels[48], source=_DECODER)
    width = channels[256] + channels[48] if reads_low_level else channels[256]
    convs = _decoder_convs(choices, width, channels[256]) if reads_low_level else ()
    dropouts = (*choices.decoder_dropout, *(0.0 for _ in convs))[: len(convs)]
    return DecoderRows(
        low_level=low_level if reads_low_level else None,
        resize=choices.decoder_resize,
        low_first=choices.decoder_order is DecoderOrder.LOW_FIRST,
        convs=convs,
        dropouts=dropouts,
        logits=_logits(choices, channels[256] if convs else width, classes),
        logits_after_resize=choices.logits_conv is LogitsConv.K1_AFTER_RESIZE,
    )


def _decoder_convs(choices: Choices, width: int, depth: int) -> tuple[HeadUnit, ...]:
    kinds = {
        DecoderConvs.NONE: (0, ""),
        DecoderConvs.SEPARABLE_1: (1, "separable"),
        DecoderConvs.SEPARABLE_2: (2, "separable"),
        DecoderConvs.DENSE_1: (1, "dense"),
        DecoderConvs.DENSE_2: (2, "dense"),
        DecoderConvs.POINTWISE_1: (1, "pointwise"),
    }
    count, kind = kinds[choices.decoder_convs]
    rows: list[HeadUnit] = []
    for number in range(1, count + 1):
        path = f"decoder.conv{number}"
        channels_in = width if number == 1 else depth
        if kind == "separable":
            between = choices.decoder_depthwise
            rows.append(head_separable(choices, path, channels_in, depth, between=between, source=_DECODER))
        else:
            kernel = 3 if kind == "dense" else 1
            rows.append(head_conv(choices, path, channels_in, depth, kernel=kernel, source=_DECODER))
    return tuple(rows)


def _logits(choices: Choices, channels_in: int, classes: int) -> ConvUnit:
    dense = choices.logits_conv is LogitsConv.K3_BIAS and choices.decoder is Decoder.LOW_LEVEL
    return ConvUnit(
        path="decoder.logits",
        channels_in=channels_in,
        channels_out=classes,
        kernel=3 if dense else 1,
        padding=same_size(3 if dense else 1, 1),
        bias=choices.logits_conv is not LogitsConv.K1_AFTER_RESIZE,
        init=initial(choices, LOGITS_STD, last=True),
        source=_LOGITS,
    )


def auxiliary_rows(choices: Choices, channels_in: int, classes: int) -> AuxiliaryRows | None:
    """Return the rows of the second head, for a value of the backbone with some number of channels; None without it."""
    if not choices.second_head:
        return None
    depth = channels_in // _AUXILIARY_DEPTH
    return AuxiliaryRows(
        conv=head_conv(choices, "auxiliary.conv", channels_in, depth, kernel=3, source=_AUXILIARY),
        dropout=_AUXILIARY_DROPOUT,
        logits=ConvUnit(
            path="auxiliary.logits",
            channels_in=depth,
            channels_out=classes,
            bias=True,
            init=initial(choices, LOGITS_STD, last=True),
            source=_AUXILIARY,
        ),
    )
