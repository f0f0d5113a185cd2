"""The receptive field of every value: the input pixels that a position depends on.

Along each axis the field of position ``p`` is the pixels from ``step * p + offset`` to
``step * p + offset + extent - 1``, with pixels outside the image where padding is read. Gaps
between the taps of an atrous convolution belong to the field.

Through convolutions, pools, padding, sums and concatenations this is exact. The neighbours of a resize are at
distances that change from position to position, and a sum may combine values of different steps; there the field is
the smallest one of this form that contains the exact one, and is marked as not exact. A global average depends on the
whole image, and so do all values after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from deeplab_spec.analysis.sizes import Shape, explicit_padding, shapes
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.folding import values_read
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Conv2d, GlobalAveragePool, Input, Pad, Pair, Pool, Resize, ResizeMode

_ZERO = Fraction(0)
_ONE = Fraction(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisField:
    """The receptive field along one axis, in input pixels.

    Attributes:
        extent: Pixels from the first to the last, both included.
        step: Distance between the fields of neighbouring positions.
        offset: First pixel of the field of position 0; negative inside the padding.
        whole: Whether every position depends on the whole image; extent and offset are then the image's.
        exact: Whether the field is exact; otherwise it contains the exact one.
    """

    extent: Fraction
    step: Fraction
    offset: Fraction
    whole: bool = False
    exact: bool = True


class ReceptiveField(NamedTuple):
    """The receptive field of a value, along the height and along the width."""

    vertical: AxisField
    horizontal: AxisField


def receptive_fields(network: Network, sizes: Pair) -> dict[str, ReceptiveField]:
    """Return the receptive field of every value.

    Raises:
        GraphError: If the network has several inputs, or as :func:`deeplab_spec.analysis.sizes.shapes`.
    """
    if len(network.inputs) != 1:
        names = [node.path for node in network.inputs]
        raise GraphError("network", "must have one input for a receptive field", names)
    known = shapes(network, sizes)
    axes = [_axis_fields(network, known, axis, sizes[axis]) for axis in (0, 1)]
    return {node.path: ReceptiveField(vertical=axes[0][node.path], horizontal=axes[1][node.path]) for node in network}


def _axis_fields(network: Network, known: Mapping[str, Shape], axis: int, image: int) -> dict[str, AxisField]:
    fields: dict[str, AxisField] = {}
    whole = AxisField(extent=Fraction(image), step=_ZERO, offset=_ZERO, whole=True)
    for node in network:
        inputs = [fields[path] for path in node.inputs]
        if isinstance(node.op, Input):
            field = AxisField(extent=_ONE, step=_ONE, offset=_ZERO)
        elif isinstance(node.op, GlobalAveragePool) or any(field.whole for field in inputs[: len(values_read(node))]):
            field = whole
        else:
            sides = [known[path][1 + axis] for path in node.inputs]
            field = _field(node, inputs, sides, known[node.path][1 + axis], axis)
        fields[node.path] = field
    return fields


def _field(node: Node, inputs: list[AxisField], sides: list[int], side: int, axis: int) -> AxisField:
    match node.op:
        case Conv2d() | Pool() as op:
            rate = op.rate if isinstance(op, Conv2d) else (1, 1)
            margins = explicit_padding(op.padding, (sides[0], sides[0]), op.kernel, op.stride, rate)
            return _window(inputs[0], op.kernel[axis], op.stride[axis], rate[axis], margins[2 * axis])
        case Pad() as op:
            return _window(inputs[0], 1, 1, 1, op.margins[2 * axis])
        case Resize() as op:
            return _resized(op, inputs[0], sides[0], side)
        case _:
            return _combined(inputs, side)


def _window(field: AxisField, kernel: int, stride: int, rate: int, margin: int) -> AxisField:
    """Return the field of a window that slides over a value."""
    return AxisField(
        extent=field.extent + rate * (kernel - 1) * field.step,
        step=field.step * stride,
        offset=field.offset - margin * field.step,
        exact=field.exact,
    )


def _resized(op: Resize, field: AxisField, before: int, after: int) -> AxisField:
    """Return the field of a resize: position ``p`` reads around ``ratio * p + shift`` of its input.

    The coordinate is a multiple of one over its denominator, so the neighbours on both sides
    are less than one pixel away, by at least that fraction.
    """
    if before == after:
        return field
    ratio, shift = Fraction(before, after), _ZERO
    if op.mode is not ResizeMode.NEAREST and op.align_corners:
        ratio = Fraction(before - 1, after - 1) if after > 1 else _ZERO
    elif op.mode is not ResizeMode.NEAREST:
        shift = (ratio - 1) / 2
    denominator = max(ratio.denominator, shift.denominator)
    reach = 1 - Fraction(1, denominator)
    if op.mode is ResizeMode.BICUBIC:
        reach += 1
    below, above = (reach, _ZERO) if op.mode is ResizeMode.NEAREST else (reach, reach)
    return AxisField(
        extent=field.extent + (below + above) * field.step,
        step=field.step * ratio,
        offset=field.offset + (shift - below) * field.step,
        exact=field.exact and not reach,
    )


def _combined(fields: list[AxisField], side: int) -> AxisField:
    """Return the field of a value that depends on several inputs at the same position."""
    step = fields[0].step
    last = side - 1
    starts = [min(field.offset, field.offset + (field.step - step) * last) for field in fields]
    ends = [field.extent + max(field.offset, field.offset + (field.step - step) * last) for field in fields]
    return AxisField(
        extent=max(ends) - min(starts),
        step=step,
        offset=min(starts),
        exact=all(field.exact and field.step == step for field in fields),
    )
