"""The rows of the specification: one record per layer, block and part.

The reference modules implement the rows, and the graph is built from them. A row holds every number of its layer;
code that uses a row adds none.
"""

from dataclasses import dataclass
from enum import StrEnum

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Source
from deeplab_spec.graph.ops import Margins, Padding, margins
from deeplab_spec.spec.choices import Interpolation


class InitKind(StrEnum):
    """A distribution of initial weights."""

    FRAMEWORK = "framework"
    KAIMING_FAN_IN = "kaiming_fan_in"
    KAIMING_FAN_OUT = "kaiming_fan_out"
    TRUNCATED_NORMAL = "truncated_normal"
    XAVIER_UNIFORM = "xavier_uniform"


@dataclass(frozen=True, slots=True, kw_only=True)
class Init:
    """The initialisation of a convolution.

    Attributes:
        kind: The distribution of the weight.
        std: Standard deviation, if the kind needs one.
        zero_bias: Whether biases start at zero; otherwise they have the framework's default.
    """

    kind: InitKind = InitKind.FRAMEWORK
    std: float = 0.0
    zero_bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """Batch normalisation after a convolution.

    Attributes:
        eps: Added to the variance.
        momentum: Weight of the new value in a running statistic.
    """

    eps: float
    momentum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvUnit:
    """A convolution, then an optional normalisation and an optional ReLU.

    Attributes:
        path: Dotted position in the network; unique.
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        kernel: Taps on each side of the square kernel.
        stride: Step between output positions, in input pixels.
        rate: Distance between kernel taps, in input pixels.
        padding: Zeros around the input.
        groups: Channel groups.
        bias: Whether the convolution has a bias.
        norm: The normalisation, or None.
        activation: Whether a ReLU follows.
        init: The initialisation.
        source: Where these numbers are published.

    Raises:
        SpecError: If a number is not positive.
    """

    path: str
    channels_in: int
    channels_out: int
    kernel: int = 1
    stride: int = 1
    rate: int = 1
    padding: Padding = (0, 0, 0, 0)
    groups: int = 1
    bias: bool = False
    norm: Norm | None = None
    activation: bool = False
    init: Init = Init()
    source: Source

    def __post_init__(self) -> None:
        numbers = (self.channels_in, self.channels_out, self.kernel, self.stride, self.rate, self.groups)
        if min(numbers) < 1:
            raise SpecError(self.path, "channels, kernel, stride, rate and groups must be positive", numbers)


def same_size(kernel: int, rate: int) -> Margins:
    """Return the symmetric margins that keep a map's size at stride 1.

    >>> same_size(3, 6)
    (6, 6, 6, 6)
    """
    return margins((kernel - 1) * rate // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparableUnit:
    """An atrous separable convolution: a depthwise unit, then a pointwise unit.

    Attributes:
        path: Dotted position in the network; unique.
        pre_activation: Whether a ReLU stands before the depthwise convolution.
        depthwise: The first half.
        pointwise: The second half.
    """

    path: str
    pre_activation: bool = False
    depthwise: ConvUnit
    pointwise: ConvUnit

    def __post_init__(self) -> None:
        if self.depthwise.groups != self.depthwise.channels_in or self.pointwise.kernel != 1:
            arrived = (self.depthwise.groups, self.pointwise.kernel)
            raise SpecError(self.path, "must be a depthwise, then a 1x1 convolution", arrived)


class SkipKind(StrEnum):
    """The kind of a block's skip path."""

    NONE = "none"
    IDENTITY = "identity"
    CONV = "conv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A sequence of separable units, with a skip path from the block's input to a sum at its end.

    Attributes:
        path: Dotted position in the network; unique.
        norm: A normalisation before both paths, or None.
        activation: Whether a ReLU precedes both paths.
        units: The main path.
        skip_kind: The kind of the skip path.
        skip: The convolution of the skip path, if it has one.
        skip_reads_activation: Whether the skip path starts at the first unit's ReLU instead of the block's input.
    """

    path: str
    norm: Norm | None = None
    activation: bool = False
    units: tuple[SeparableUnit, ...]
    skip_kind: SkipKind
    skip: ConvUnit | None = None
    skip_reads_activation: bool = False

    def __post_init__(self) -> None:
        if (self.skip is not None) != (self.skip_kind is SkipKind.CONV):
            raise SpecError(
                self.path, "a skip row is required for a convolutional skip, and only for it", self.skip_kind
            )

    @property
    def channels_in(self) -> int:
        """Channels of the block's input."""
        return self.units[0].depthwise.channels_in

    @property
    def channels_out(self) -> int:
        """Channels of the block's output."""
        return self.units[-1].pointwise.channels_out


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneRows:
    """The modified aligned Xception.

    Attributes:
        output_stride: Input pixels per pixel of the result.
        reported_output_stride: The output stride that the backbone reports.
        stem: The first convolutions.
        entry_flow: Blocks that subsample.
        middle_flow: Blocks that keep size and channels.
        exit_flow: Blocks with more channels.
        low_level: Path of the decoder's low-level features.
        low_level_channels: Channels of that value.
    """

    output_stride: int
    reported_output_stride: int
    stem: tuple[ConvUnit, ...]
    entry_flow: tuple[Block, ...]
    middle_flow: tuple[Block, ...]
    exit_flow: tuple[Block, ...]
    low_level: str
    low_level_channels: int

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block, in order."""
        return (*self.entry_flow, *self.middle_flow, *self.exit_flow)

    @property
    def channels_in(self) -> int:
        """Channels of the image."""
        return self.stem[0].channels_in

    @property
    def channels_out(self) -> int:
        """Channels of the result."""
        return self.blocks[-1].channels_out


HeadUnit = ConvUnit | SeparableUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class AsppRows:
    """Atrous spatial pyramid pooling.

    Attributes:
        conv1x1: The 1x1 branch.
        atrous: The 3x3 branches, in the order of their rates.
        pool: The convolution of the image-pooling branch.
        pool_resize: Resize of the pooled pixel to the map.
        pool_first: Whether the image-pooling branch is first in the concatenation; otherwise it is last.
        projection: The convolution after the concatenation.
        refinement: A separable unit after the projection, or None.
        dropout: Probability that a value is dropped at the end; 0 for no dropout.
    """

    conv1x1: ConvUnit
    atrous: tuple[HeadUnit, ...]
    pool: ConvUnit
    pool_resize: Interpolation
    pool_first: bool
    projection: ConvUnit
    refinement: SeparableUnit | None
    dropout: float

    @property
    def channels_in(self) -> int:
        """Channels of the input."""
        return self.conv1x1.channels_in

    @property
    def channels_out(self) -> int:
        """Channels of the result."""
        return self.projection.channels_out


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderRows:
    """From the pyramid's output and the low-level features to the logits.

    Attributes:
        low_level: The projection of the low-level features; None without a decoder.
        resize: Resize of the pyramid's output to the low-level map.
        low_first: Whether the low-level features are first in the concatenation.
        convs: The convolutions after the concatenation.
        dropouts: Probability that a value is dropped after each of them; 0 for no dropout.
        logits: The convolution that computes one channel per class.
        logits_after_resize: Whether that convolution follows the output resize.
    """

    low_level: ConvUnit | None
    resize: Interpolation
    low_first: bool
    convs: tuple[HeadUnit, ...]
    dropouts: tuple[float, ...]
    logits: ConvUnit
    logits_after_resize: bool

    @property
    def classes(self) -> int:
        """Channels of the result."""
        return self.logits.channels_out


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRows:
    """The whole network.

    Attributes:
        backbone: The feature extractor.
        aspp: The pyramid.
        decoder: The decoder.
        output_resize: Resize of the logits to the input's size.
        size_multiple: Height and width must be multiples of this; 1 if any size is legal.
    """

    backbone: BackboneRows
    aspp: AsppRows
    decoder: DecoderRows
    output_resize: Interpolation
    size_multiple: int = 1
