"""The costs that an alignment minimises: of pairing two nodes, and of leaving a node without a partner.

Two nodes are paired where that costs less than one missing and one extra node. Costs are integers, so that equal
alignments cost exactly the same.
"""

from typing import Final

from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Concat, Conv2d, Margins, Opaque, Output

Signature = tuple[object, ...]
"""Everything about a node that its cost depends on."""

IMPOSSIBLE: Final = 10**9

_CONV: Final = 400
_SMALL: Final = 200
_OTHER: Final = 300

_READ: Final = 1
"""Cost of another input operation: it decides only between alignments that are equal otherwise."""


def signature(shaped: Shaped, node: Node) -> Signature:
    """Return the compared facts of a node: its operation, its channels, the size of its map, and its first input."""
    read = tuple(shaped.network[path].op for path in node.inputs[:1])
    return (node.op, shaped.channels(node.path), shaped.map_size(node.path), read)


def gap(node: Node) -> int:
    """Return the cost of a node without a partner."""
    match node.op:
        case Conv2d():
            return _CONV
        case BatchNorm() | Activation():
            return _SMALL
        case _:
            return _OTHER


def substitution(left: Signature, right: Signature) -> int:
    """Return the cost of pairing two nodes; 0 if they do not differ."""
    if left == right:
        return 0
    expected, actual = left[0], right[0]
    if type(expected) is not type(actual):
        return IMPOSSIBLE
    context = 30 * (left[2] != right[2]) + _READ * (left[3] != right[3])
    match expected, actual:
        case Conv2d(), Conv2d():
            return context + _between_convs(expected, actual)
        case Opaque(), Opaque():
            return context + (50 if expected.target == actual.target else IMPOSSIBLE)
        case Output(), Output():
            return context if expected.name == actual.name else IMPOSSIBLE
        case Concat(), Concat():
            return context
        case _:
            return context + 50 * (left[1] != right[1]) + 50 * (expected != actual)


def excess(conv: Conv2d) -> Margins:
    """Return the margins beyond those that keep a map's size at stride 1.

    A layer whose rate and padding are wrong together has the right excess, and so only one fault.

    >>> excess(Conv2d(channels_in=1, channels_out=1, kernel=(3, 3), rate=(6, 6), padding=(6, 6, 6, 6)))
    (0, 0, 0, 0)
    """
    if conv.padding == "same":
        return (0, 0, 0, 0)
    vertical, horizontal = (rate * (taps - 1) // 2 for rate, taps in zip(conv.rate, conv.kernel, strict=True))
    top, bottom, left, right = conv.padding
    return (top - vertical, bottom - vertical, left - horizontal, right - horizontal)


def comparable_rates(left: Conv2d, right: Conv2d) -> tuple[tuple[int, int], ...]:
    """Return the pairs of rates along the axes where both kernels have more than one tap.

    >>> atrous = Conv2d(channels_in=1, channels_out=1, kernel=(3, 3), rate=(6, 6))
    >>> comparable_rates(atrous, Conv2d(channels_in=1, channels_out=1, kernel=(1, 3)))
    ((6, 1),)
    """
    sides = zip(left.kernel, right.kernel, left.rate, right.rate, strict=True)
    return tuple((first, second) for taps, others, first, second in sides if min(taps, others) > 1)


def _between_rates(left: int, right: int) -> int:
    """Return the cost of a wrong rate: quadratic, so that branches are paired in the order of their rates."""
    return 5 + min((left - right) ** 2 // 8, 150) if left != right else 0


def _between_convs(left: Conv2d, right: Conv2d) -> int:
    kinds = left.depthwise != right.depthwise
    grouping = not (left.depthwise and right.depthwise) and left.groups != right.groups
    return (
        300 * (left.kernel != right.kernel)
        + 400 * kinds
        + 200 * (not kinds and grouping)
        + 200 * (left.channels_out != right.channels_out)
        + 100 * (left.stride != right.stride)
        + sum(_between_rates(first, second) for first, second in comparable_rates(left, right))
        + 100 * (excess(left) != excess(right))
        + 50 * (left.bias != right.bias)
        + 25 * (left.channels_in != right.channels_in)
    )
