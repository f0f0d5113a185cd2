"""The interpreter: runs a graph, node by node.

It depends on the graph only, so it is an independent witness beside the arithmetic and the reference
modules.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Input,
    Multiply,
    Opaque,
    Output,
    Pad,
    Padding,
    Pair,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
)

Values = dict[str, Tensor]
"""Values of a network, by path."""

Weights = Mapping[str, Tensor]
"""Tensors by path and role: ``<node path>.weight``, ``.bias``, ``.running_mean``, ``.running_var``."""

OpaqueRunner = Callable[[Node, list[Tensor]], Tensor]
"""Runs an opaque node on the values of its inputs."""


def run(
    network: Network,
    weights: Weights,
    inputs: Mapping[str, Tensor],
    *,
    keep: Collection[str] | None = None,
    until: str | None = None,
    opaque: OpaqueRunner | None = None,
    prepare: Callable[[Node, list[Tensor]], None] | None = None,
    watch: Callable[[str, Tensor], None] | None = None,
) -> Values:
    """Execute a network in evaluation, and return values by path.

    Inputs are tensors ``(n, channels, h, w)`` by path. All values are returned, or those of ``keep`` and of the
    outputs; the node ``until`` is the last one. ``prepare`` is called with each node and the values of its inputs
    before it runs, ``watch`` with each path and value, in order.

    Raises:
        GraphError: If an operation is opaque and ``opaque`` is None, or an input has no value.
    """
    pending = {path: len(readers) for path, readers in network.readers().items()}
    values: Values = {}
    for node in network:
        if node.path in inputs:
            values[node.path] = inputs[node.path]
        else:
            before = [values[path] for path in node.inputs]
            if prepare is not None:
                prepare(node, before)
            values[node.path] = step(node, before, weights, opaque)
        if watch is not None:
            watch(node.path, values[node.path])
        for path in node.inputs:
            pending[path] -= 1
            dropped = keep is not None and path not in keep
            if dropped and not pending[path] and not isinstance(network[path].op, Output):
                values.pop(path, None)
        if node.path == until:
            break
    return values


def step(  # noqa: C901, PLR0912 - one case per operator
    node: Node, inputs: list[Tensor], weights: Weights, opaque: OpaqueRunner | None = None
) -> Tensor:
    """Execute one node on given values.

    Raises:
        GraphError: If the operation is opaque and ``opaque`` is None, or is an input.
    """
    if isinstance(node.op, Input):
        raise GraphError(node.path, "must be given a value", "none")
    if isinstance(node.op, Opaque):
        if opaque is None:
            raise GraphError(node.path, "must be a known operation", node.op.target)
        return opaque(node, inputs)
    x = inputs[0]
    match node.op:
        case Conv2d() as op:
            return _conv(op, x, weights[f"{node.path}.weight"], weights.get(f"{node.path}.bias"))
        case BatchNorm() as op:
            return _norm(node.path, op, x, weights)
        case Activation() as op:
            return _ACTIVATIONS[op.kind](op, x)
        case Add():
            return x + inputs[1]
        case Multiply():
            return x * inputs[1]
        case Concat():
            return torch.cat(inputs, dim=1)
        case GlobalAveragePool():
            return x.mean(dim=(2, 3), keepdim=True)
        case Pool() as op:
            return _pool(op, x)
        case Resize() as op:
            return _resize(op, x, op.size or (int(inputs[1].shape[2]), int(inputs[1].shape[3])))
        case Pad(margins=(top, bottom, left, right)) as op:
            value = op.value if op.mode == "constant" else None
            return functional.pad(x, (left, right, top, bottom), mode=op.mode, value=value)
        case Dropout() | Output():
            return x


def _margins(padding: Padding, extent: Pair, stride: Pair, x: Tensor) -> list[int]:
    """Return the margins of a window, from the last axis to the first; ``extent`` is from its first tap to its last."""
    if padding != "same":
        top, bottom, left, right = padding
        return [left, right, top, bottom]
    margins: list[int] = []
    for axis in (1, 0):
        size = x.shape[2 + axis]
        last = (size - 1) // stride[axis] * stride[axis]
        total = last + extent[axis] - size
        if extent[axis] < stride[axis]:  # else it is never negative; asking would end a symbolic trace
            total = max(total, 0)
        margins += [total // 2, total - total // 2]
    return margins


def conv_margins(op: Conv2d, x: Tensor) -> list[int]:
    """Return the margins that a convolution adds to a map (n, c, h, w): left, right, top, bottom."""
    extent = (op.rate[0] * (op.kernel[0] - 1) + 1, op.rate[1] * (op.kernel[1] - 1) + 1)
    return _margins(op.padding, extent, op.stride, x)


def _conv(op: Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    margins = conv_margins(op, x)
    if x.dtype is torch.float64 and op.depthwise and op.channels_out == op.channels_in:
        return _depthwise(op, functional.pad(x, margins), weight, bias)
    if op.padding != "same" and margins[0] == margins[1] >= 0 and margins[2] == margins[3] >= 0:
        padding = (margins[2], margins[0])
    else:
        x, padding = functional.pad(x, margins), (0, 0)
    return functional.conv2d(x, weight, bias, op.stride, padding, op.rate, op.groups)


def _depthwise(op: Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Sum the taps of a padded map: in float64, several times as fast as the framework's loop over channels."""
    views = list(taps(x, op.kernel, op.stride, op.rate))
    total = x.new_zeros(views[0][1].shape)
    for (row, column), view in views:
        total.addcmul_(view, weight[:, 0, row, column, None, None])
    return total if bias is None else total.add_(bias[:, None, None])


def taps(x: Tensor, kernel: Pair, stride: Pair, rate: Pair) -> Iterator[tuple[Pair, Tensor]]:
    """Yield the position of every tap of a kernel, and a view of the pixels of a padded map that it reads.

    Raises:
        RuntimeError: If the kernel does not fit into the map.
    """
    rows, columns = ((x.shape[2 + axis] - rate[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1 for axis in (0, 1))
    if min(rows, columns) < 1:
        raise RuntimeError(f"a kernel of sides {kernel} and rate {rate} does not fit into a map of {tuple(x.shape)}")
    for row, column in product(range(kernel[0]), range(kernel[1])):
        top, left = row * rate[0], column * rate[1]
        yield (
            (row, column),
            x[:, :, top : top + rows * stride[0] : stride[0], left : left + columns * stride[1] : stride[1]],
        )


def _norm(path: str, op: BatchNorm, x: Tensor, weights: Weights) -> Tensor:
    mean, variance = weights[f"{path}.running_mean"], weights[f"{path}.running_var"]
    scale, offset = weights.get(f"{path}.weight"), weights.get(f"{path}.bias")
    return functional.batch_norm(x, mean, variance, scale, offset, training=False, eps=op.eps)


def _pool(op: Pool, x: Tensor) -> Tensor:
    margins = _margins(op.padding, op.kernel, op.stride, x)
    left, right, top, bottom = margins
    if op.padding == "same" or (top, left) != (bottom, right):
        if op.kind is not PoolKind.MAX:
            raise GraphError("Pool", "margins of an average must be symmetric", op.padding)
        x, top, left = functional.pad(x, margins, value=-math.inf), 0, 0
    if op.kind is PoolKind.MAX:
        return functional.max_pool2d(x, op.kernel, op.stride, (top, left), ceil_mode=op.ceil_mode)
    return functional.avg_pool2d(x, op.kernel, op.stride, (top, left), op.ceil_mode, op.count_margin)


def _resize(op: Resize, x: Tensor, size: tuple[int, int]) -> Tensor:
    if op.mode is ResizeMode.NEAREST:
        return functional.interpolate(x, size=size, mode="nearest")
    return functional.interpolate(x, size=size, mode=op.mode.value, align_corners=op.align_corners)


_ACTIVATIONS: dict[ActivationKind, Callable[[Activation, Tensor], Tensor]] = {
    ActivationKind.RELU: lambda _, x: x.relu(),
    ActivationKind.RELU6: lambda _, x: functional.relu6(x),
    ActivationKind.LEAKY_RELU: lambda op, x: functional.leaky_relu(x, op.slope),
    ActivationKind.ELU: lambda op, x: functional.elu(x, op.slope),
    ActivationKind.GELU: lambda _, x: functional.gelu(x),
    ActivationKind.SILU: lambda _, x: functional.silu(x),
    ActivationKind.HARDSWISH: lambda _, x: functional.hardswish(x),
    ActivationKind.HARDSIGMOID: lambda _, x: functional.hardsigmoid(x),
    ActivationKind.SIGMOID: lambda _, x: x.sigmoid(),
    ActivationKind.TANH: lambda _, x: x.tanh(),
}
