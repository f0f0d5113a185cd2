"""How the choices determine a single layer: channels, bias, normalisation, padding and initial weights."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Source
from deeplab_spec.graph.ops import ActivationKind, Padding, Pair
from deeplab_spec.spec.choices import Choices, ConvBias, DepthwiseUnit, Initialisation, StridePadding, UnstridedRate
from deeplab_spec.spec.rows import ConvUnit, GateUnit, Init, InitKind, Norm, SeparableUnit, same_size

HEAD_DEPTHWISE_STD: Final = 0.33
HEAD_POINTWISE_STD: Final = 0.06

HEAD_CHANNELS: Final = (48, 256)
"""The channel counts of pyramid and decoder at width 1: of the projected low-level features, and of all others."""

NORMAL_STD: Final = 0.02
"""Standard deviation of the initial weights under ``normal``."""

IMAGE_CHANNELS: Final = 3

OUTPUT_STRIDES: Final = (8, 16, 32)
"""Supported output strides: input pixels per pixel of the backbone's result."""

SMALLEST: Final = 4
"""The smallest channel count: one more than the image's channels."""


def check_output_stride(output_stride: int) -> None:
    """Check that a backbone can have an output stride.

    Raises:
        SpecError: If it is not 8, 16 or 32.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise SpecError("output_stride", "must be 8, 16 or 32", output_stride)


def scaled_channels(base: Iterable[int], width: float) -> dict[int, int]:
    """Map every channel count at width 1 to its count at another width.

    The rule: multiply, round half up, and increase where needed so that each count exceeds the next smaller one.
    So counts that differ at width 1 differ at every width, and a fault that confuses two of them stays visible.

    ``base`` has the counts at width 1, ascending.

    >>> list(scaled_channels((32, 48, 64, 128, 256, 728), 1 / 32).values())
    [4, 5, 6, 7, 8, 23]
    """
    scaled: dict[int, int] = {}
    least = SMALLEST
    for channels in base:
        scaled[channels] = max(least, int(channels * width + 0.5))
        least = scaled[channels] + 1
    return scaled


def backbone_norm(choices: Choices) -> Norm:
    """Return the normalisation of the backbone."""
    own = choices.backbone_norm_momentum
    momentum = choices.norm_momentum if isinstance(own, str) else own
    return Norm(eps=choices.backbone_norm_eps, momentum=momentum)


def backbone_conv(
    choices: Choices,
    path: str,
    channels: tuple[int, int],
    *,
    kernel: int = 1,
    stride: int = 1,
    rate: int = 1,
    groups: int = 1,
    activation: ActivationKind | None = None,
    first: bool = False,
    std: float | None = None,
    source: Source,
) -> ConvUnit:
    """Return a normalised convolution of the backbone.

    ``channels`` are those of its input and of its result; ``std`` is the standard deviation of the initial weights that
    the release publishes, or None.
    """
    return ConvUnit(
        path=path,
        channels_in=channels[0],
        channels_out=channels[1],
        kernel=kernel,
        stride=stride,
        rate=rate,
        padding=padding(choices, kernel, stride, rate, first=first),
        groups=groups,
        bias=choices.conv_bias is ConvBias.EVERY,
        norm=backbone_norm(choices),
        activation=activation,
        init=backbone_initial(choices, std),
        source=source,
    )


def rounded_channels(exact: float, divisor: int) -> int:
    """Return the multiple of a divisor that is nearest to a channel count, but at most 10 % below it.

    >>> rounded_channels(18, 8), rounded_channels(30, 8)
    (24, 32)
    """
    nearest = max(divisor, int(exact + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * exact else nearest + divisor


def gate(
    choices: Choices, path: str, channels: int, squeezed: int, *, factor: ActivationKind, source: Source
) -> GateUnit:
    """Return a gate of the backbone: two convolutions with biases and without normalisation.

    It has ``squeezed`` channels between the convolutions, and the result of the activation ``factor`` is the factor.
    """
    layer = partial(ConvUnit, bias=True, init=backbone_initial(choices, None), source=source)
    return GateUnit(
        path=path,
        squeeze=layer(
            path=f"{path}.squeeze", channels_in=channels, channels_out=squeezed, activation=ActivationKind.RELU
        ),
        excite=layer(path=f"{path}.excite", channels_in=squeezed, channels_out=channels, activation=factor),
    )


@dataclass(slots=True)
class Strides:
    """Replaces strides beyond an output stride by rates.

    Attributes:
        output_stride: Input pixels per pixel of the result.
        rule: The rate of a unit that loses its stride.
        reached: The strides so far, multiplied.
        rate: The rate of the next unit.
    """

    output_stride: int
    rule: UnstridedRate
    reached: int
    rate: int = 1

    def next(self, stride: int) -> tuple[int, int]:
        """Return the stride and the rate of the next unit, which is published with a stride."""
        own = self.rate
        if stride == 1 or self.reached < self.output_stride:
            self.reached *= stride
            return stride, own
        self.rate *= stride
        return 1, own if self.rule is UnstridedRate.UNCHANGED else self.rate


def padding(choices: Choices, kernel: int, stride: int, rate: int, *, first: bool = False) -> Padding:
    """Return the zeros around the input of a convolution of the backbone; ``first`` for the network's first."""
    same = choices.stride_padding
    if kernel > 1 and stride > 1 and (same is StridePadding.SAME or (same is StridePadding.SAME_STEM and first)):
        return "same"
    return same_size(kernel, rate)


def backbone_initial(choices: Choices, std: float | None) -> Init:
    """Return the initialisation of a convolution of the backbone, as :func:`initial` does for the head."""
    own = choices.backbone_init
    return _initial(own if isinstance(own, Initialisation) else choices.init, std, last=False)


def initial(choices: Choices, std: float | None, *, last: bool = False) -> Init:
    """Return the initialisation of a convolution of the head.

    ``std`` is the standard deviation that the release publishes for this layer, or None if it uses its framework's
    default; the ``last`` convolution gives the logits.
    """
    return _initial(choices.init, std, last=last)


def _initial(init: Initialisation, std: float | None, *, last: bool) -> Init:
    if init is Initialisation.FRAMEWORK_DEFAULT:
        return Init()
    if (init is Initialisation.TRUNCATED_NORMAL and std is None) or (init is Initialisation.KAIMING_UNIFORM and last):
        init = Initialisation.XAVIER_UNIFORM
    deviations = {Initialisation.TRUNCATED_NORMAL: std, Initialisation.NORMAL: NORMAL_STD}
    kind, zero_bias = InitKind(init.value), init is not Initialisation.KAIMING_FAN_IN
    return Init(kind=kind, std=deviations.get(init) or 0.0, zero_bias=zero_bias)


def head_conv(
    choices: Choices,
    path: str,
    channels_in: int,
    channels_out: int,
    *,
    kernel: int = 1,
    rate: int | Pair = 1,
    source: Source,
) -> ConvUnit:
    """Return a dense convolution of pyramid or decoder, with normalisation and ReLU."""
    return ConvUnit(
        path=path,
        channels_in=channels_in,
        channels_out=channels_out,
        kernel=kernel,
        rate=rate,
        padding=same_size(kernel, rate),
        bias=choices.conv_bias is not ConvBias.NONE,
        norm=Norm(eps=choices.head_norm_eps, momentum=choices.norm_momentum),
        activation=ActivationKind.RELU,
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
    rate: int | Pair = 1,
    source: Source,
) -> SeparableUnit:
    """Return a separable convolution of pyramid or decoder."""
    depthwise = head_conv(choices, f"{path}.depthwise", channels_in, channels_in, kernel=3, rate=rate, source=source)
    depthwise = replace(
        depthwise,
        groups=channels_in,
        norm=None if between is DepthwiseUnit.BARE else depthwise.norm,
        activation=ActivationKind.RELU if between is DepthwiseUnit.NORM_AND_ACTIVATION else None,
        init=initial(choices, HEAD_DEPTHWISE_STD),
    )
    pointwise = head_conv(choices, f"{path}.pointwise", channels_in, channels_out, source=source)
    pointwise = replace(pointwise, init=initial(choices, HEAD_POINTWISE_STD))
    return SeparableUnit(path=path, depthwise=depthwise, pointwise=pointwise)
