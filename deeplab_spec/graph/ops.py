"""The closed family of operators that a network is made of.

Each operator is a frozen record in the ecosystem's terms. What no record describes is an
:class:`Opaque`, so that a foreign graph is kept whole. Pairs are ``(vertical, horizontal)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from math import prod
from typing import Final, Literal

from deeplab_spec.errors import GraphError

Pair = tuple[int, int]
Margins = tuple[int, int, int, int]
"""Padding in pixels: top, bottom, left, right."""
Padding = Margins | Literal["same"]
"""Explicit margins, or the rule that makes the output ``ceil(size / stride)`` with the
smaller half of the padding first (the odd pixel goes to the bottom and right)."""

NO_MARGINS: Margins = (0, 0, 0, 0)


class ActivationKind(StrEnum):
    """Element-wise functions that occur in networks of this family and its neighbours."""

    RELU = "relu"
    RELU6 = "relu6"
    LEAKY_RELU = "leaky_relu"
    ELU = "elu"
    GELU = "gelu"
    SILU = "silu"
    HARDSWISH = "hardswish"
    HARDSIGMOID = "hardsigmoid"
    SIGMOID = "sigmoid"
    TANH = "tanh"


class PoolKind(StrEnum):
    """How a pooling window is reduced."""

    MAX = "max"
    AVERAGE = "average"


class ResizeMode(StrEnum):
    """How values between samples are computed."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A tensor that enters the network."""

    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2d:
    """A two-dimensional convolution.

    Attributes:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        kernel: Taps of the kernel.
        stride: Step between output positions, in input pixels.
        rate: Distance between kernel taps, in input pixels; 1 is an ordinary convolution.
        padding: Zeros around the input.
        groups: Channel groups; ``channels_in`` for a depthwise convolution.
        bias: Whether a value per output channel is added.
    """

    channels_in: int
    channels_out: int
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    rate: Pair = (1, 1)
    padding: Padding = NO_MARGINS
    groups: int = 1
    bias: bool = False

    def __post_init__(self) -> None:
        channels = (self.channels_in, self.channels_out, self.groups)
        if min(channels) < 1:
            raise GraphError("Conv2d", "channels and groups must be positive", channels)
        if self.channels_in % self.groups or self.channels_out % self.groups:
            raise GraphError("Conv2d", "groups must divide both channel counts", channels)
        sides = (*self.kernel, *self.stride, *self.rate)
        if min(sides) < 1:
            raise GraphError("Conv2d", "kernel, stride and rate must be positive", sides)

    @property
    def depthwise(self) -> bool:
        """Whether every channel has a kernel of its own."""
        return 1 < self.groups == self.channels_in

    @property
    def pointwise(self) -> bool:
        """Whether the kernel is a single tap."""
        return self.kernel == (1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm:
    """Batch normalisation over channels.

    Attributes:
        channels: Channels of the tensor.
        eps: Added to the variance.
        momentum: Weight of the new value in a running statistic (PyTorch's convention), or
            None for a cumulative average.
        affine: Whether a scale and an offset per channel are learned.
    """

    channels: int
    eps: float
    momentum: float | None
    affine: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """An element-wise function.

    Attributes:
        kind: Which one.
        slope: Slope below zero, where the kind has one.
    """

    kind: ActivationKind = ActivationKind.RELU
    slope: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """The element-wise sum of two tensors of one shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiply:
    """The product of a map and a factor per channel, which is a map of one pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat:
    """The concatenation of tensors along the channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAveragePool:
    """The mean of every channel, as a map of one pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pooling window that slides over the map.

    Attributes:
        kind: How the window is reduced.
        kernel: Size of the window.
        stride: Step between windows.
        padding: Pixels around the input: they never win a maximum, and are zeros in an average.
        ceil_mode: Whether a window may start inside the margin and overhang it.
        count_margin: Whether an average also counts the pixels of the padding.
    """

    kind: PoolKind
    kernel: Pair
    stride: Pair
    padding: Padding = NO_MARGINS
    ceil_mode: bool = False
    count_margin: bool = True

    def __post_init__(self) -> None:
        if min(*self.kernel, *self.stride) < 1:
            raise GraphError("Pool", "kernel and stride must be positive", (*self.kernel, *self.stride))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """A change of the map's size.

    The target is the size of the node's second input, unless ``size`` states it.

    Attributes:
        mode: How values between samples are computed.
        align_corners: Whether the corner samples of both grids coincide.
        size: Height and width of the result, in a graph captured at one input size.
    """

    mode: ResizeMode = ResizeMode.BILINEAR
    align_corners: bool = True
    size: Pair | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad:
    """Padding added to the map, or cropped from it if negative.

    Attributes:
        margins: Pixels on each side.
        mode: ``constant``, ``reflect``, ``replicate`` or ``circular``.
        value: The value of constant padding.
    """

    margins: Margins
    mode: str = "constant"
    value: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Values set to zero at random while training; nothing at inference."""

    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A tensor that leaves the network."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque:
    """An operation that no other record describes, kept as captured.

    Attributes:
        target: Name of the operation in the framework it came from.
        detail: Its arguments, as text.
    """

    target: str
    detail: str = ""


Op = (
    Input
    | Conv2d
    | BatchNorm
    | Activation
    | Add
    | Multiply
    | Concat
    | GlobalAveragePool
    | Pool
    | Resize
    | Pad
    | Dropout
    | Output
    | Opaque
)


MAP_RANK: Final = 4
"""Sides of a batch of maps."""

MOST_VALUES: Final = 2**29
"""Elements of the largest tensor that is computed: 2 GiB in float32."""

MOST_SIDE: Final = 2**20
"""Largest side of a batch of maps, and largest whole number among the attributes of an operator."""


def check_shape(path: str, shape: Sequence[int]) -> None:
    """Check that a tensor of a shape can be computed.

    Raises:
        GraphError: If a side is negative, or the tensor is too large.
    """
    sides = MOST_SIDE if len(shape) == MAP_RANK else MOST_VALUES
    if shape and (min(shape) < 0 or max(shape) > sides or prod(shape) > MOST_VALUES):
        raise GraphError(path, f"a tensor must have at most {MOST_VALUES:,} values", tuple(shape[:8]))


def check_numbers(path: str, op: Op) -> None:
    """Check that the whole numbers of an operator can be computed with.

    Raises:
        GraphError: If one is too large.
    """
    for name in (entry.name for entry in fields(op)):
        value = getattr(op, name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and abs(number) > MOST_SIDE:
                raise GraphError(path, f"{name} must be at most {MOST_SIDE:,}", number)


def margins(value: int) -> Margins:
    """Return the same margin on every side.

    >>> margins(6)
    (6, 6, 6, 6)
    """
    return (value, value, value, value)


def kind(op: Op) -> str:
    """Name the operator's kind, e.g. ``Conv2d``."""
    return type(op).__name__


def roles(op: Op) -> dict[str, tuple[int, ...]]:
    """Return the tensors that an operation owns: shapes by role.

    >>> roles(BatchNorm(channels=4, eps=1e-3, momentum=0.1, affine=False))
    {'running_mean': (4,), 'running_var': (4,)}
    """
    match op:
        case Conv2d():
            shapes: dict[str, tuple[int, ...]] = {"weight": (op.channels_out, op.channels_in // op.groups, *op.kernel)}
            if op.bias:
                shapes["bias"] = (op.channels_out,)
            return shapes
        case BatchNorm():
            names = ["weight", "bias"] if op.affine else []
            return dict.fromkeys([*names, "running_mean", "running_var"], (op.channels,))
        case _:
            return {}
