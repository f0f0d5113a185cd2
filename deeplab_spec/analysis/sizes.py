"""The size of every value of a network, for any input size."""

from collections.abc import Mapping
from dataclasses import dataclass

from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    BatchNorm,
    Concat,
    Conv2d,
    GlobalAveragePool,
    Input,
    Margins,
    Multiply,
    Opaque,
    Pad,
    Padding,
    Pair,
    Pool,
    Resize,
)

Shape = tuple[int, int, int]
"""Channels, height and width of one image's value."""


@dataclass(frozen=True, slots=True)
class SideRule:
    """The rule that gives one side of a map from the same side of the input.

    Attributes:
        excess: Pixels that the margins add, minus those of a window beyond its first.
        stride: Step between windows.
        reach: If windows may overhang the end: the first pixel at which no window may start, counted from the end of
            the input; otherwise None.
    """

    excess: int
    stride: int
    reach: int | None = None

    def __call__(self, size: int) -> int:
        """Return the side of the result.

        >>> SideRule(excess=-1, stride=2)(513)
        257
        """
        if self.reach is None:
            return (size + self.excess) // self.stride + 1
        positions = -(-(size + self.excess) // self.stride) + 1
        return positions - 1 if (positions - 1) * self.stride >= size + self.reach else positions


def explicit_padding(padding: Padding, size: Pair, kernel: Pair, stride: Pair, rate: Pair) -> Margins:
    """Return the explicit margins of a padding for one input size.

    >>> explicit_padding("same", (4, 5), (3, 3), (2, 2), (1, 1))
    (0, 1, 1, 1)
    """
    if padding != "same":
        return padding
    sides: list[int] = []
    for pixels, taps, step, distance in zip(size, kernel, stride, rate, strict=True):
        positions = -(-pixels // step)
        total = max((positions - 1) * step + distance * (taps - 1) + 1 - pixels, 0)
        sides += [total // 2, total - total // 2]
    top, bottom, left, right = sides
    return (top, bottom, left, right)


def side_rules(op: Conv2d | Pool | Pad) -> tuple[SideRule, SideRule]:
    """Return the rules of height and width for an operator with a sliding window."""
    if isinstance(op, Pad):
        top, bottom, left, right = op.margins
        return SideRule(top + bottom - 1, 1), SideRule(left + right - 1, 1)
    if op.padding == "same":
        return SideRule(-1, op.stride[0]), SideRule(-1, op.stride[1])  # by definition ceil(size / stride)
    rate = op.rate if isinstance(op, Conv2d) else (1, 1)
    overhangs = isinstance(op, Pool) and op.ceil_mode
    top, bottom, left, right = op.padding
    return (
        SideRule(top + bottom - rate[0] * (op.kernel[0] - 1) - 1, op.stride[0], top if overhangs else None),
        SideRule(left + right - rate[1] * (op.kernel[1] - 1) - 1, op.stride[1], left if overhangs else None),
    )


def shapes(network: Network, sizes: Pair | Mapping[str, Pair]) -> dict[str, Shape]:
    """Return the shape of every value, by path.

    The sizes are the height and width of the input, or of each input by its path.

    Raises:
        GraphError: If a value would have an empty side, channels do not fit, or an operation is opaque.
    """
    shapes_by_path: dict[str, Shape] = {}
    for node in network:
        if isinstance(node.op, Input):
            height, width = sizes[node.path] if isinstance(sizes, Mapping) else sizes
            shape = (node.op.channels, height, width)
        else:
            shape = shape_of(node, [shapes_by_path[path] for path in node.inputs])
        if min(shape) < 1:
            raise GraphError(node.path, "no side of a value may be empty", shape)
        shapes_by_path[node.path] = shape
    return shapes_by_path


def channels_of(network: Network) -> dict[str, int]:
    """Return the channels of every value, from the graph alone.

    Raises:
        GraphError: If an operation is opaque.
    """
    channels_by_path: dict[str, int] = {}
    for node in network:
        match node.op:
            case Input(channels=channels) | Conv2d(channels_out=channels):
                channels_by_path[node.path] = channels
            case Concat():
                channels_by_path[node.path] = sum(channels_by_path[path] for path in node.inputs)
            case Opaque(target=target):
                raise GraphError(node.path, "the size of an opaque operation is not known", target)
            case _:
                channels_by_path[node.path] = channels_by_path[node.inputs[0]]
    return channels_by_path


def shape_of(node: Node, inputs: list[Shape]) -> Shape:
    """Return the shape of a node's value from the shapes of its inputs; the node is not an input.

    Raises:
        GraphError: If channels or sizes do not fit, or the operation is opaque.
    """
    channels, height, width = inputs[0]
    match node.op:
        case Conv2d() | Pool() | Pad() as op:
            down, across = side_rules(op)
            if isinstance(op, Conv2d):
                _expect_channels(node, op.channels_in, channels)
                channels = op.channels_out
            return (channels, down(height), across(width))
        case BatchNorm() as op:
            _expect_channels(node, op.channels, channels)
            return inputs[0]
        case Concat():
            if len({shape[1:] for shape in inputs}) > 1:
                raise GraphError(node.path, "concatenated maps must have one size", inputs)
            return (sum(shape[0] for shape in inputs), height, width)
        case GlobalAveragePool():
            return (channels, 1, 1)
        case Resize() as op:
            return (channels, *(op.size or inputs[1][1:]))
        case Multiply():
            if inputs[1] != (channels, 1, 1):
                raise GraphError(node.path, "the factor must be a map of one pixel with the same channels", inputs)
            return inputs[0]
        case Opaque() as op:
            raise GraphError(node.path, "the size of an opaque operation is not known", op.target)
        case _:
            if len(set(inputs)) > 1:
                raise GraphError(node.path, "operands must have one shape", inputs)
            return inputs[0]


def _expect_channels(node: Node, expected: int, actual: int) -> None:
    if expected != actual:
        raise GraphError(node.path, f"input must have {expected} channels", actual)
