"""The size of every value of a network, for any input size."""

from collections.abc import Mapping

from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    BatchNorm,
    Concat,
    Conv2d,
    GlobalAveragePool,
    Input,
    Margins,
    Opaque,
    Pad,
    Padding,
    Pair,
    Pool,
    Resize,
)

Shape = tuple[int, int, int]
"""Channels, height and width of one image's value."""


def window_positions(size: int, kernel: int, stride: int, rate: int, margin: int) -> int:
    """Return how many positions a window has along one side.

    Args:
        size: Pixels of the input.
        kernel: Taps of the window.
        stride: Step between positions.
        rate: Distance between taps.
        margin: Padding before and after, together.

    >>> window_positions(513, kernel=3, stride=2, rate=1, margin=2)
    257
    """
    return (size + margin - rate * (kernel - 1) - 1) // stride + 1


def explicit_padding(padding: Padding, size: Pair, kernel: Pair, stride: Pair, rate: Pair) -> Margins:
    """Return the margins that a padding means for one input size.

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


def shapes(network: Network, sizes: Pair | Mapping[str, Pair]) -> dict[str, Shape]:
    """Return the shape of every value.

    Args:
        network: The graph.
        sizes: Height and width of the input, or of each input by its path.

    Returns:
        Channels, height and width by path.

    Raises:
        GraphError: If a value would have an empty side, channels do not fit, or an operation
            is opaque.
    """
    found: dict[str, Shape] = {}
    for node in network:
        if isinstance(node.op, Input):
            height, width = sizes[node.path] if isinstance(sizes, Mapping) else sizes
            shape = (node.op.channels, height, width)
        else:
            shape = _shape(node, [found[path] for path in node.inputs])
        if min(shape) < 1:
            raise GraphError(node.path, "no side of a value may be empty", shape)
        found[node.path] = shape
    return found


def _shape(node: Node, inputs: list[Shape]) -> Shape:
    channels, height, width = inputs[0]
    match node.op:
        case Conv2d() as op:
            _expect_channels(node, op.channels_in, channels)
            top, bottom, left, right = explicit_padding(
                op.padding, (height, width), op.kernel, op.stride, op.rate
            )
            return (
                op.channels_out,
                window_positions(height, op.kernel[0], op.stride[0], op.rate[0], top + bottom),
                window_positions(width, op.kernel[1], op.stride[1], op.rate[1], left + right),
            )
        case BatchNorm() as op:
            _expect_channels(node, op.channels, channels)
            return inputs[0]
        case Concat():
            if len({shape[1:] for shape in inputs}) > 1:
                raise GraphError(node.path, "joined maps must have one size", inputs)
            return (sum(shape[0] for shape in inputs), height, width)
        case GlobalAveragePool():
            return (channels, 1, 1)
        case Pool() as op:
            return (channels, *_pooled(op, (height, width)))
        case Resize() as op:
            return (channels, *(op.size or inputs[1][1:]))
        case Pad(margins=(top, bottom, left, right)):
            return (channels, height + top + bottom, width + left + right)
        case Opaque() as op:
            raise GraphError(node.path, "the size of an opaque operation is not known", op.target)
        case _:
            if len(set(inputs)) > 1:
                raise GraphError(node.path, "operands must have one shape", inputs)
            return inputs[0]


def _pooled(op: Pool, size: Pair) -> Pair:
    margins = (op.padding[0] + op.padding[1], op.padding[2] + op.padding[3])
    before = (op.padding[0], op.padding[2])
    sides = []
    for pixels, kernel, stride, margin, first in zip(size, op.kernel, op.stride, margins, before, strict=True):
        overhang = stride - 1 if op.ceil_mode else 0
        positions = (pixels + margin - kernel + overhang) // stride + 1
        if op.ceil_mode and (positions - 1) * stride >= pixels + first:
            positions -= 1
        sides.append(positions)
    return sides[0], sides[1]


def _expect_channels(node: Node, expected: int, actual: int) -> None:
    if expected != actual:
        raise GraphError(node.path, f"input must have {expected} channels", actual)
