"""The rows of the specification: one record per layer, block and part.

The reference modules implement the rows, and the graph is built from them. A row holds every number of its layer;
code that uses a row adds none.
"""

from dataclasses import dataclass
from enum import StrEnum

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Source
from deeplab_spec.graph.ops import ActivationKind, Margins, Padding, Pair, Pool
from deeplab_spec.spec.choices import Interpolation, OutputResize


class InitKind(StrEnum):
    """A distribution of initial weights."""

    FRAMEWORK = "framework"
    KAIMING_FAN_IN = "kaiming_fan_in"
    KAIMING_FAN_OUT = "kaiming_fan_out"
    TRUNCATED_NORMAL = "truncated_normal"
    XAVIER_UNIFORM = "xavier_uniform"
    KAIMING_UNIFORM = "kaiming_uniform"
    VARIANCE_SCALING = "variance_scaling"
    NORMAL = "normal"


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
    """A convolution, then an optional normalisation and an optional activation.

    Attributes:
        path: Dotted position in the network; unique.
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        kernel: Taps on each side of the square kernel.
        stride: Step between output positions, in input pixels.
        rate: Distance between kernel taps, in input pixels; a pair if it differs vertically and horizontally.
        padding: Zeros around the input.
        groups: Channel groups.
        bias: Whether the convolution has a bias.
        norm: The normalisation, or None.
        activation: The activation that follows, or None.
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
    rate: int | Pair = 1
    padding: Padding = (0, 0, 0, 0)
    groups: int = 1
    bias: bool = False
    norm: Norm | None = None
    activation: ActivationKind | None = None
    init: Init = Init()
    source: Source

    def __post_init__(self) -> None:
        numbers = (self.channels_in, self.channels_out, self.kernel, self.stride, *self.rates, self.groups)
        if min(numbers) < 1:
            raise SpecError(self.path, "channels, kernel, stride, rate and groups must be positive", numbers)

    @property
    def rates(self) -> Pair:
        """The rate vertically and horizontally."""
        return (self.rate, self.rate) if isinstance(self.rate, int) else self.rate


def same_size(kernel: int, rate: int | Pair) -> Margins:
    """Return the symmetric margins that keep a map's size at stride 1.

    >>> same_size(3, 6)
    (6, 6, 6, 6)
    """
    vertical, horizontal = (rate, rate) if isinstance(rate, int) else rate
    rows, columns = (kernel - 1) * vertical // 2, (kernel - 1) * horizontal // 2
    return (rows, rows, columns, columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparableUnit:
    """An atrous separable convolution: a ReLU in some, then a depthwise unit, then a pointwise unit."""

    path: str
    pre_activation: bool = False
    depthwise: ConvUnit
    pointwise: ConvUnit

    def __post_init__(self) -> None:
        if self.depthwise.groups != self.depthwise.channels_in or self.pointwise.kernel != 1:
            arrived = (self.depthwise.groups, self.pointwise.kernel)
            raise SpecError(self.path, "must be a depthwise, then a 1x1 convolution", arrived)


HeadUnit = ConvUnit | SeparableUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class GateUnit:
    """A factor for every channel, computed from the channels' means: squeeze and excitation.

    Attributes:
        path: Dotted position in the network; unique.
        squeeze: The first convolution of the means.
        excite: The second, with as many channels as the map; its result is the factor.

    Raises:
        SpecError: If the factor has other channels than the map.
    """

    path: str
    squeeze: ConvUnit
    excite: ConvUnit

    def __post_init__(self) -> None:
        if self.squeeze.channels_in != self.excite.channels_out:
            channels = (self.squeeze.channels_in, self.excite.channels_out)
            raise SpecError(self.path, "the factor must have the channels of the map", channels)


Unit = HeadUnit | GateUnit
"""A unit of a backbone's block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUnit:
    """A pooling window."""

    path: str
    op: Pool
    source: Source


class SkipKind(StrEnum):
    """The kind of a block's skip path."""

    NONE = "none"
    IDENTITY = "identity"
    CONV = "conv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A sequence of convolutions, with a skip path from the block's input to a sum at its end.

    Attributes:
        path: Dotted position in the network; unique.
        norm: A normalisation before both paths, or None.
        activation: Whether a ReLU precedes both paths.
        units: The main path.
        skip_kind: The kind of the skip path.
        skip_pool: The pooling at the start of the skip path, if it has one.
        skip: The convolution of the skip path, if it has one.
        skip_reads_activation: Whether the skip path starts at the first unit's ReLU instead of the block's input.
        after: The activation after the sum, or None.
    """

    path: str
    norm: Norm | None = None
    activation: bool = False
    units: tuple[Unit, ...]
    skip_kind: SkipKind
    skip_pool: PoolUnit | None = None
    skip: ConvUnit | None = None
    skip_reads_activation: bool = False
    after: ActivationKind | None = None

    def __post_init__(self) -> None:
        if (self.skip is not None) != (self.skip_kind is SkipKind.CONV):
            raise SpecError(
                self.path, "a skip row is required for a convolutional skip, and only for it", self.skip_kind
            )

    @property
    def channels_in(self) -> int:
        """Channels of the block's input."""
        return first_conv(self.units[0]).channels_in

    @property
    def channels_out(self) -> int:
        """Channels of the block's output."""
        return last_conv(self.units[-1]).channels_out

    @property
    def convolutions(self) -> tuple[ConvUnit, ...]:
        """Every convolution of the main path and the skip."""
        return (*(conv for unit in self.units for conv in convolutions(unit)), *([self.skip] if self.skip else []))


def convolutions(unit: Unit) -> tuple[ConvUnit, ...]:
    """Return the convolutions of a unit, in order."""
    match unit:
        case ConvUnit():
            return (unit,)
        case SeparableUnit():
            return (unit.depthwise, unit.pointwise)
        case GateUnit():
            return (unit.squeeze, unit.excite)


def first_conv(unit: Unit) -> ConvUnit:
    """Return the first convolution of a unit."""
    return convolutions(unit)[0]


def last_conv(unit: Unit) -> ConvUnit:
    """Return the last convolution of a unit."""
    return convolutions(unit)[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneRows:
    """A backbone: a stem, then blocks.

    Attributes:
        output_stride: Input pixels per pixel of the result.
        reported_output_stride: The output stride that the backbone reports.
        stem: The first layers.
        blocks: The blocks, in order.
        low_level: Path of the decoder's low-level features.
        low_level_channels: Channels of that value.
        auxiliary: Path of the value that an auxiliary head reads; empty if there is none.
        auxiliary_channels: Channels of that value.
    """

    output_stride: int
    reported_output_stride: int
    stem: tuple[ConvUnit | PoolUnit, ...]
    blocks: tuple[Block, ...]
    low_level: str
    low_level_channels: int
    auxiliary: str = ""
    auxiliary_channels: int = 0

    @property
    def channels_in(self) -> int:
        """Channels of the image."""
        return next(unit.channels_in for unit in self.stem if isinstance(unit, ConvUnit))

    @property
    def convolutions(self) -> tuple[ConvUnit, ...]:
        """Every convolution, in order."""
        stem = (unit for unit in self.stem if isinstance(unit, ConvUnit))
        return (*stem, *(conv for block in self.blocks for conv in block.convolutions))

    @property
    def channels_out(self) -> int:
        """Channels of the result."""
        return self.blocks[-1].channels_out


@dataclass(frozen=True, slots=True, kw_only=True)
class AsppRows:
    """Atrous spatial pyramid pooling, or a cell of branches that read each other.

    Attributes:
        conv1x1: The 1x1 branch, or None.
        atrous: The 3x3 branches, in the order of their rates.
        inputs: For every 3x3 branch the number of the branch that it reads, from 0; None for the features.
        pool: The convolution of the image-pooling branch; None without the branch.
        pool_resize: Resize of the pooled pixel to the map.
        pool_first: Whether the image-pooling branch is first in the concatenation; otherwise it is last.
        projection: The convolution after the concatenation.
        dropout: Probability that a value is dropped; 0 for no dropout.
        dropout_first: Whether values are dropped before the projection; otherwise after it.
        refinement: A 3x3 unit after that, or None.
    """

    conv1x1: ConvUnit | None
    atrous: tuple[HeadUnit, ...]
    inputs: tuple[int | None, ...]
    pool: ConvUnit | None
    pool_resize: Interpolation
    pool_first: bool
    projection: ConvUnit
    dropout: float
    dropout_first: bool = False
    refinement: HeadUnit | None

    @property
    def branches(self) -> tuple[HeadUnit, ...]:
        """The branches in the order of the concatenation, without their poolings and resizes."""
        local = (*([self.conv1x1] if self.conv1x1 else []), *self.atrous)
        pool = (self.pool,) if self.pool else ()
        return (*pool, *local) if self.pool_first else (*local, *pool)

    @property
    def convolutions(self) -> tuple[ConvUnit, ...]:
        """Every convolution."""
        units = (*self.branches, self.projection, *([self.refinement] if self.refinement else []))
        return tuple(conv for unit in units for conv in convolutions(unit))

    @property
    def channels_in(self) -> int:
        """Channels of the input."""
        reader = self.conv1x1 or self.atrous[0]
        return first_conv(reader).channels_in

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
    def convolutions(self) -> tuple[ConvUnit, ...]:
        """Every convolution, in order."""
        low = (self.low_level,) if self.low_level else ()
        return (*low, *(conv for unit in self.convs for conv in convolutions(unit)), self.logits)

    @property
    def classes(self) -> int:
        """Channels of the result."""
        return self.logits.channels_out


@dataclass(frozen=True, slots=True, kw_only=True)
class AuxiliaryRows:
    """A second head, on a value inside the backbone.

    Attributes:
        conv: Its 3x3 convolution.
        dropout: Probability that a value is dropped after it.
        logits: The convolution that computes one channel per class.
    """

    conv: ConvUnit
    dropout: float
    logits: ConvUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRows:
    """The whole network.

    Attributes:
        backbone: The feature extractor.
        aspp: The pyramid.
        decoder: The decoder.
        output_resize: Resize of the logits to the input's size.
        auxiliary: The second head, or None.
        named_results: Whether results are returned by name.
        size_multiple: Height and width must be multiples of this; 1 if any size is legal.
    """

    backbone: BackboneRows
    aspp: AsppRows
    decoder: DecoderRows
    output_resize: OutputResize
    auxiliary: AuxiliaryRows | None = None
    named_results: bool = False
    size_multiple: int = 1

    @property
    def convolutions(self) -> tuple[ConvUnit, ...]:
        """Every convolution of the network."""
        second = (self.auxiliary.conv, self.auxiliary.logits) if self.auxiliary else ()
        return (*self.backbone.convolutions, *self.aspp.convolutions, *self.decoder.convolutions, *second)
