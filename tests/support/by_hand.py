"""What layers compute, from their definitions: slow, and without the package's formulas."""

from torch import Tensor

from deeplab_spec.graph.ops import ActivationKind, Pool, PoolKind


def activated(x: Tensor, kind: ActivationKind | None) -> Tensor:
    """Return a map after an activation.

    Raises:
        ValueError: If the kind has no definition here.
    """
    match kind:
        case None:
            return x
        case ActivationKind.RELU:
            return x.clamp(min=0)
        case ActivationKind.RELU6:
            return x.clamp(0, 6)
    raise ValueError(kind)


def windows(op: Pool, x: Tensor) -> Tensor:
    """Return a map after a pooling, window by window."""
    starts = [_starts(op, axis, x.shape[2 + axis]) for axis in (0, 1)]
    result = x.new_empty(*x.shape[:2], len(starts[0]), len(starts[1]))
    for i, top in enumerate(starts[0]):
        for j, left in enumerate(starts[1]):
            bottom, right = top + op.kernel[0], left + op.kernel[1]
            inside = x[..., max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
            if op.kind is PoolKind.MAX:
                result[..., i, j] = inside.amax((2, 3))
            else:
                result[..., i, j] = inside.sum((2, 3)) / _counted(op, (top, left), x, inside)
    return result


def _starts(op: Pool, axis: int, side: int) -> range:
    """Return the first pixel of every window along an axis, counted from the map's first."""
    kernel, stride = op.kernel[axis], op.stride[axis]
    if op.padding == "same":
        count = -(-side // stride)
        before = max((count - 1) * stride + kernel - side, 0) // 2
        return range(-before, -before + count * stride, stride)
    before, after = op.padding[2 * axis : 2 * axis + 2]
    room = before + side + after - kernel
    count = (-(-room // stride) if op.ceil_mode else room // stride) + 1
    if op.ceil_mode and (count - 1) * stride >= before + side:
        count -= 1  # a window must start inside the map or the margin before it
    return range(-before, -before + count * stride, stride)


def _counted(op: Pool, start: tuple[int, int], x: Tensor, inside: Tensor) -> int:
    """Return the pixels that a mean divides by: those of the map, or with its margin."""
    if not op.count_margin:
        return inside[0, 0].numel()
    assert op.padding != "same"
    sides = []
    for axis in (0, 1):
        after = op.padding[2 * axis + 1]
        sides.append(min(start[axis] + op.kernel[axis], x.shape[2 + axis] + after) - start[axis])
    return sides[0] * sides[1]
