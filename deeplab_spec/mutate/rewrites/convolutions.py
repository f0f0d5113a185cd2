"""Replacements of convolutions: padding applied before, matrix products, split channels, space to batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from deeplab_spec.analysis.sizes import channels_of
from deeplab_spec.execute.interpreter import conv_margins
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Margins
from deeplab_spec.mutate.rewrites.original import Original, Replacement, Tensors


def convolved(
    op: Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None, margins: Margins | None = None, groups: int = 0
) -> Tensor:
    """Convolve with padding; by default, that of the operator."""
    x, (top, _, left, _) = _padded(op, x, margins)
    return functional.conv2d(x, weight, bias, op.stride, (top, left), op.rate, groups or op.groups)


def _padded(op: Conv2d, x: Tensor, margins: Margins | None = None) -> tuple[Tensor, Margins]:
    """Pad a map if the two sides differ; return it with the margins that are left for the convolution."""
    top, bottom, left, right = margins = _margins(op, x) if margins is None else margins
    if (top, left) == (bottom, right):
        return x, margins
    return functional.pad(x, (left, right, top, bottom)), (0, 0, 0, 0)


NORM_ROLES: Final = ("running_mean", "running_var", "weight", "bias")

Steps = Callable[[Margins], Sequence[Margins]]
"""Divides the padding of a convolution into steps; the convolution adds what is left of it."""

BORDERS: Final[Mapping[str, Steps]] = {
    "apart": lambda margins: (margins,),
    "in two steps": lambda margins: ((*margins[:2], 0, 0), (0, 0, *margins[2:])),
    "a row and a column apart": lambda margins: ((min(margins[0], 1), 0, 0, min(margins[3], 1)),),
}


def bordered(original: Original, node: Node, op: Conv2d, steps: Steps) -> Replacement:
    """Pad the map before the convolution, in steps; the convolution adds the rest of its padding."""
    del original  # replacements of convolutions have one signature
    path = node.path

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        x = values[node.inputs[0]]
        margins = _margins(op, x)
        for step in steps(margins):
            top, bottom, left, right = step
            x = functional.pad(x, (left, right, top, bottom))
            margins = _less(margins, step)
        return convolved(op, x, tensors[f"{path}.weight"], tensors.get(f"{path}.bias"), margins)

    return Replacement(paths=(path,), run=run)


def same(original: Original, node: Node, op: Conv2d) -> Replacement:
    """Pass ``same`` instead of the padding that keeps the map's size."""
    del original
    path = node.path

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        weight, bias = tensors[f"{path}.weight"], tensors.get(f"{path}.bias")
        return functional.conv2d(values[node.inputs[0]], weight, bias, op.stride, "same", op.rate, op.groups)

    return Replacement(paths=(path,), run=run)


Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""A 1x1 convolution of a batch of maps with a matrix, and a bias."""


def _linear(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    return functional.linear(x.permute(0, 2, 3, 1), matrix, bias).permute(0, 3, 1, 2)


def _biased(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias[:, None, None]


def _matmul(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    return _biased(torch.unflatten(torch.matmul(matrix, x.flatten(2)), 2, x.shape[2:]), bias)


def _einsum(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    return _biased(torch.einsum("oc,nchw->nohw", matrix, x), bias)


def _conv1d(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    return torch.unflatten(functional.conv1d(x.flatten(2), matrix[:, :, None], bias), 2, x.shape[2:])


def _tensordot(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    return _biased(torch.tensordot(x, matrix, dims=([1], [1])).permute(0, 3, 1, 2), bias)


PRODUCTS: Final[dict[str, Product]] = {
    "linear": _linear,
    "matmul": _matmul,
    "einsum": _einsum,
    "conv1d": _conv1d,
    "tensordot": _tensordot,
}


def product(original: Original, node: Node, op: Conv2d, function: Product) -> Replacement:
    """Compute a 1x1 convolution as a matrix product, with the weight stored as a matrix."""
    path, bias = node.path, f"{node.path}.bias"
    parameters = {f"{path}.weight": original.weights[f"{path}.weight"].flatten(1)}
    if op.bias:
        parameters[bias] = original.weights[bias]

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        return function(values[node.inputs[0]], tensors[f"{path}.weight"], tensors.get(bias))

    return Replacement(paths=(path,), run=run, parameters=parameters)


def split_results(original: Original, node: Node, op: Conv2d, parts: int = 2) -> Replacement:
    """Split the output channels of a convolution and concatenate the results; a depthwise one splits its input too."""
    path, own = node.path, _own(original, node)
    sizes = _sizes(op.channels_out, parts)
    parameters = {
        f"{path}.part{number}.{role}": piece
        for role, tensor in own.items()
        for number, piece in enumerate(torch.split(tensor, sizes))
    }

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        x, margins = _padded(op, values[node.inputs[0]])
        read = torch.split(x, sizes, dim=1) if op.groups > 1 else (x,) * len(sizes)
        results = []
        for number, size in enumerate(sizes):
            part = f"{path}.part{number}"
            groups = size if op.groups > 1 else 1
            weight, bias = tensors[f"{part}.weight"], tensors.get(f"{part}.bias")
            results.append(convolved(op, read[number], weight, bias, margins, groups))
        return torch.cat(results, dim=1)

    return Replacement(paths=(path,), run=run, parameters=parameters)


def split_reads(original: Original, node: Node, op: Conv2d) -> Replacement:
    """Split the input channels of a convolution in two ranges, and add the results."""
    path, own = node.path, _own(original, node)
    sizes = _sizes(op.channels_in, 2)
    first, second = torch.split(own["weight"], sizes, dim=1)
    parameters = {f"{path}.first.{role}": tensor for role, tensor in {**own, "weight": first}.items()}
    parameters[f"{path}.second.weight"] = second

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        x, margins = _padded(op, values[node.inputs[0]])
        left, right = x[:, : sizes[0]], x[:, sizes[0] :]
        total = convolved(op, left, tensors[f"{path}.first.weight"], tensors.get(f"{path}.first.bias"), margins)
        return total + convolved(op, right, tensors[f"{path}.second.weight"], None, margins)

    return Replacement(paths=(path,), run=run, parameters=parameters)


def split_sources(original: Original, concat: Node, node: Node, op: Conv2d) -> Replacement:
    """Convolve every input of a concatenation by itself, and add the results."""
    path, own = node.path, _own(original, node)
    counts = channels_of(original.network)
    pieces = torch.split(own["weight"], [counts[source] for source in concat.inputs], dim=1)
    parameters = {f"{path}.from{number}.weight": piece for number, piece in enumerate(pieces)}
    if op.bias:
        parameters[f"{path}.bias"] = own["bias"]

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        total: Tensor | None = None
        for number, source in enumerate(concat.inputs):
            bias = tensors.get(f"{path}.bias") if number == 0 else None
            one = convolved(op, values[source], tensors[f"{path}.from{number}.weight"], bias)
            total = one if total is None else total + one
        return torch.empty(0) if total is None else total

    return Replacement(paths=(concat.path, path), run=run, parameters=parameters)


def space_to_batch(original: Original, nodes: Sequence[Node], op: Conv2d) -> Replacement:
    """Compute an atrous convolution as a dense one, with the phases of its rate in the batch, and crop the result.

    The nodes are the convolution, and the normalisation and activation that run before the crop.
    """
    del original
    conv, *rest = nodes
    rate = op.rate[0]

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        x = values[conv.inputs[0]]
        n, c, h, w = x.shape
        x = functional.pad(x, (0, -w % rate, 0, -h % rate))
        tall, wide = x.shape[2] // rate, x.shape[3] // rate
        x = x.reshape(n, c, tall, rate, wide, rate).permute(3, 5, 0, 1, 2, 4).reshape(rate * rate * n, c, tall, wide)
        weight, bias = tensors[f"{conv.path}.weight"], tensors.get(f"{conv.path}.bias")
        x = functional.conv2d(x, weight, bias, padding=_margins(op, x)[0] // rate, groups=op.groups)
        for node in rest:
            x = normalised(node.path, node.op, x, tensors) if isinstance(node.op, BatchNorm) else x.relu()
        x = x.reshape(rate, rate, n, -1, tall, wide).permute(2, 3, 4, 0, 5, 1).reshape(n, -1, tall * rate, wide * rate)
        return x[:, :, :h, :w]

    return Replacement(paths=tuple(node.path for node in nodes), run=run)


def normalised(path: str, op: BatchNorm, x: Tensor, tensors: Tensors) -> Tensor:
    """Normalise a map by the tensors at a path."""
    mean, variance, scale, offset = (tensors[f"{path}.{role}"] for role in NORM_ROLES)
    return functional.batch_norm(x, mean, variance, scale, offset, eps=op.eps)


def _margins(op: Conv2d, x: Tensor) -> Margins:
    left, right, top, bottom = conv_margins(op, x)
    return (top, bottom, left, right)


def _less(margins: Margins, step: Margins) -> Margins:
    top, bottom, left, right = (own - side for own, side in zip(margins, step, strict=True))
    return (top, bottom, left, right)


def _own(original: Original, node: Node) -> dict[str, Tensor]:
    names = {role: f"{node.path}.{role}" for role in ("weight", "bias")}
    return {role: original.weights[name] for role, name in names.items() if name in original.weights}


def _sizes(total: int, parts: int) -> list[int]:
    """Return sizes of parts; they differ, so that swapped parts would not fit."""
    first = max(1, total // parts - 1)
    return [*[first] * (parts - 1), total - first * (parts - 1)]
