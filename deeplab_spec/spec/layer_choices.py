"""How the choices determine a single layer: channels, bias, normalisation, padding and initial weights."""

from typing import Final

from deeplab_spec.graph.network import Source
from deeplab_spec.graph.ops import Padding
from deeplab_spec.spec.choices import (
    AtrousPadding,
    Choices,
    ConvBias,
    DepthwiseUnit,
    Initialisation,
    StridePadding,
)
from deeplab_spec.spec.rows import ConvUnit, Init, InitKind, Norm, SeparableUnit, same_size

HEAD_DEPTHWISE_STD: Final = 0.33
HEAD_POINTWISE_STD: Final = 0.06

BASE_CHANNELS: Final = (32, 48, 64, 128, 256, 728, 1024, 1536, 2048)
"""Every channel count of the network at width 1, ascending, without image and classes."""

SMALLEST: Final = 4
"""The smallest channel count: one more than the image's channels."""

_STEM: Final = "backbone.entry_flow.stem.conv1"


def scaled_channels(width: float) -> dict[int, int]:
    """Map every channel count to its count at another width.

    The rule: multiply, round half up, and increase where needed so that each count exceeds the next smaller one.
    So counts that differ at width 1 differ at every width, and a fault that confuses two of them stays visible.

    Args:
        width: Multiplier of the channel counts.

    Returns:
        Scaled counts by their counts at width 1.

    >>> list(scaled_channels(1.0).values()) == list(BASE_CHANNELS)
    True
    >>> list(scaled_channels(1 / 32).values())
    [4, 5, 6, 7, 8, 23, 32, 48, 64]
    """
    scaled: dict[int, int] = {}
    least = SMALLEST
    for channels in BASE_CHANNELS:
        scaled[channels] = max(least, int(channels * width + 0.5))
        least = scaled[channels] + 1
    return scaled


def backbone_norm(choices: Choices) -> Norm:
    """Return the normalisation of the backbone."""
    return Norm(eps=choices.backbone_norm_eps, momentum=choices.norm_momentum)


def head_norm(choices: Choices) -> Norm:
    """Return the normalisation of pyramid and decoder."""
    return Norm(eps=choices.head_norm_eps, momentum=choices.norm_momentum)


def backbone_bias(choices: Choices) -> bool:
    """Return whether a normalised convolution of the backbone has a bias."""
    return choices.conv_bias is ConvBias.EVERY


def head_bias(choices: Choices) -> bool:
    """Return whether a normalised convolution of pyramid or decoder has a bias."""
    return choices.conv_bias is not ConvBias.NONE


def padding(choices: Choices, path: str, kernel: int, stride: int, rate: int) -> Padding:
    """Return the zeros around the input of a convolution of the backbone."""
    if kernel == 1:
        return same_size(kernel, rate)
    same = choices.stride_padding
    if stride > 1 and (same is StridePadding.SAME or (same is StridePadding.SAME_STEM and path == _STEM)):
        return "same"
    return same_size(kernel, rate if choices.atrous_padding is AtrousPadding.RATE else 1)


def initial(choices: Choices, std: float | None) -> Init:
    """Return the initialisation of a convolution.

    Args:
        choices: The choices.
        std: Standard deviation that the release publishes for this layer, or None if the release uses its
            framework's default.
    """
    match choices.init:
        case Initialisation.TRUNCATED_NORMAL if std is not None:
            return Init(kind=InitKind.TRUNCATED_NORMAL, std=std, zero_bias=True)
        case Initialisation.TRUNCATED_NORMAL:
            return Init(kind=InitKind.XAVIER_UNIFORM, zero_bias=True)
        case Initialisation.KAIMING_FAN_IN:
            return Init(kind=InitKind.KAIMING_FAN_IN)
        case Initialisation.KAIMING_FAN_OUT:
            return Init(kind=InitKind.KAIMING_FAN_OUT)
        case Initialisation.FRAMEWORK_DEFAULT:
            return Init(kind=InitKind.FRAMEWORK)


def head_conv(
    choices: Choices, path: str, channels_in: int, channels_out: int, *, kernel: int = 1, rate: int = 1, source: Source
) -> ConvUnit:
    """Return a dense convolution of pyramid or decoder, with normalisation and ReLU."""
    return ConvUnit(
        path=path,
        channels_in=channels_in,
        channels_out=channels_out,
        kernel=kernel,
        rate=rate,
        padding=same_size(kernel, rate),
        bias=head_bias(choices),
        norm=head_norm(choices),
        activation=True,
        init=initial(choices, None),
        source=source,
    )


def head_separable(
    choices: Choices,
    path: str,
    channels_in: int,
    channels_out: int,
    *,
    between: DepthwiseUnit,
    rate: int = 1,
    source: Source,
) -> SeparableUnit:
    """Return a separable convolution of pyramid or decoder."""
    depthwise = ConvUnit(
        path=f"{path}.depthwise",
        channels_in=channels_in,
        channels_out=channels_in,
        kernel=3,
        rate=rate,
        padding=same_size(3, rate),
        groups=channels_in,
        bias=head_bias(choices),
        norm=None if between is DepthwiseUnit.BARE else head_norm(choices),
        activation=between is DepthwiseUnit.NORM_AND_ACTIVATION,
        init=initial(choices, HEAD_DEPTHWISE_STD),
        source=source,
    )
    pointwise = ConvUnit(
        path=f"{path}.pointwise",
        channels_in=channels_in,
        channels_out=channels_out,
        bias=head_bias(choices),
        norm=head_norm(choices),
        activation=True,
        init=initial(choices, HEAD_POINTWISE_STD),
        source=source,
    )
    return SeparableUnit(path=path, depthwise=depthwise, pointwise=pointwise)
