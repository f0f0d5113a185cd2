"""The rows of the pyramid and the decoder."""

from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Source
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
from deeplab_spec.spec.layer_choices import head_bias, head_conv, head_norm, head_separable, initial, scaled_channels
from deeplab_spec.spec.rows import AsppRows, ConvUnit, DecoderRows, HeadUnit, same_size
from deeplab_spec.spec.sources import DEEPLAB_V3, paper, release

BASE_RATES: Final = (6, 12, 18)
BASE_OUTPUT_STRIDE: Final = 16
LOGITS_STD: Final = 0.01

_PYRAMID: Final = Source(work=DEEPLAB_V3, place="section 3.3")
_DECODER: Final = paper("section 3.2 and figure 2")
_LOGITS: Final = release("model.py, logits")


def aspp_rates(choices: Choices, output_stride: int) -> tuple[int, ...]:
    """Return the rates of the pyramid's 3x3 branches.

    >>> from deeplab_spec.spec.variants import TF_RELEASE
    >>> [aspp_rates(TF_RELEASE.choices, stride) for stride in (8, 16, 32)]
    [(12, 24, 36), (6, 12, 18), (3, 6, 9)]
    """
    if isinstance(choices.aspp_rates, str):
        return tuple(rate * BASE_OUTPUT_STRIDE // output_stride for rate in BASE_RATES)
    return choices.aspp_rates


def aspp_rows(choices: Choices, output_stride: int) -> AsppRows:
    """Return the rows of the pyramid, for features at an output stride."""
    channels = scaled_channels(choices.width)
    features, depth = channels[2048], channels[256]

    def branch(number: int, rate: int) -> HeadUnit:
        path = f"aspp.atrous{number}"
        if choices.aspp_convs is HeadConvs.DENSE:
            return head_conv(choices, path, features, depth, kernel=3, rate=rate, source=_PYRAMID)
        between = choices.aspp_depthwise
        return head_separable(choices, path, features, depth, between=between, rate=rate, source=_PYRAMID)

    kernel = 3 if choices.projection is Projection.K3 else 1
    refinement = None
    if choices.projection is Projection.K1_THEN_SEPARABLE:
        between = choices.aspp_depthwise
        refinement = head_separable(choices, "aspp.refinement", depth, depth, between=between, source=_PYRAMID)
    return AsppRows(
        conv1x1=head_conv(choices, "aspp.conv1x1", features, depth, source=_PYRAMID),
        atrous=tuple(branch(number, rate) for number, rate in enumerate(aspp_rates(choices, output_stride), start=1)),
        pool=_pool(choices, features, depth),
        pool_resize=choices.pool_resize,
        pool_first=choices.aspp_order is AsppOrder.POOL_FIRST,
        projection=head_conv(choices, "aspp.projection", 5 * depth, depth, kernel=kernel, source=_PYRAMID),
        refinement=refinement,
        dropout=choices.aspp_dropout,
    )


def _pool(choices: Choices, features: int, depth: int) -> ConvUnit:
    normalised = choices.pool_norm is PoolNorm.NORM
    return ConvUnit(
        path="aspp.pool",
        channels_in=features,
        channels_out=depth,
        bias=head_bias(choices) or not normalised,
        norm=head_norm(choices) if normalised else None,
        activation=True,
        init=initial(choices, None),
        source=_PYRAMID,
    )


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
    channels = scaled_channels(choices.width)
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
        init=initial(choices, LOGITS_STD),
        source=_LOGITS,
    )
