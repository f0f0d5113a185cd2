"""Other ways to compute a convolution: its border apart, a product, parts of it, every rate-th pixel."""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Margins
from deeplab_spec.mutate.rewrites.graphs import channels
from deeplab_spec.mutate.rewrites.subject import Form, Subject, Tensors


def convolved(
    op: Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None, margins: Margins | None = None, groups: int = 0
) -> Tensor:
    """Convolve with symmetric margins, those of a record by default."""
    top, bottom, left, right = _margins(op) if margins is None else margins
    if (top, left) != (bottom, right):
        x, top, left = functional.pad(x, (left, right, top, bottom)), 0, 0
    return functional.conv2d(x, weight, bias, op.stride, (top, left), op.rate, groups or op.groups)


def bordered(subject: Subject, node: Node, op: Conv2d, steps: Sequence[Margins]) -> Form:
    """Put the border, or a part of it, around the map first; what is left is the convolution's."""
    del subject  # every form of a convolution is made of the same
    path = node.path
    inner: list[int] = [own - sum(sides) for own, sides in zip(_margins(op), zip(*steps, strict=True), strict=True)]

    def run(values: Tensors, held: Tensors) -> Tensor:
        x = values[node.inputs[0]]
        for top, bottom, left, right in steps:
            x = functional.pad(x, (left, right, top, bottom))
        margins = (inner[0], inner[1], inner[2], inner[3])
        return convolved(op, x, held[f"{path}.weight"], held.get(f"{path}.bias"), margins)

    return Form(paths=(path,), run=run)


def border_apart(subject: Subject, node: Node, op: Conv2d) -> Form:
    """Put the whole border around the map first."""
    return bordered(subject, node, op, (_margins(op),))


def border_in_two_steps(subject: Subject, node: Node, op: Conv2d) -> Form:
    """Put rows around the map first, then columns."""
    top, bottom, left, right = _margins(op)
    return bordered(subject, node, op, ((top, bottom, 0, 0), (0, 0, left, right)))


def same(subject: Subject, node: Node, op: Conv2d) -> Form:
    """Say ``same`` instead of the margins that keep a map's size."""
    del subject
    path = node.path

    def run(values: Tensors, held: Tensors) -> Tensor:
        weight, bias = held[f"{path}.weight"], held.get(f"{path}.bias")
        return functional.conv2d(values[node.inputs[0]], weight, bias, op.stride, "same", op.rate, op.groups)

    return Form(paths=(path,), run=run)


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


def product(subject: Subject, node: Node, op: Conv2d, way: str) -> Form:
    """Compute a 1x1 convolution as a matrix product, of a matrix that is held as such."""
    path, bias = node.path, f"{node.path}.bias"
    held = {f"{path}.weight": subject.weights[f"{path}.weight"].flatten(1)}
    if op.bias:
        held[bias] = subject.weights[bias]

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        return PRODUCTS[way](values[node.inputs[0]], tensors[f"{path}.weight"], tensors.get(bias))

    return Form(paths=(path,), run=run, held=held)


def split_results(subject: Subject, node: Node, op: Conv2d, parts: int = 2) -> Form:
    """Compute the results of a convolution in parts, and join them; of a grouped one, with what each part reads."""
    path, own = node.path, _own(subject, node)
    sizes = _sizes(op.channels_out, parts)
    held = {
        f"{path}.part{number}.{role}": piece
        for role, tensor in own.items()
        for number, piece in enumerate(torch.split(tensor, sizes))
    }

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        x = values[node.inputs[0]]
        read = torch.split(x, sizes, dim=1) if op.groups > 1 else (x,) * len(sizes)
        results = []
        for number, size in enumerate(sizes):
            part = f"{path}.part{number}"
            groups = size if op.groups > 1 else 1
            weight, bias = tensors[f"{part}.weight"], tensors.get(f"{part}.bias")
            results.append(convolved(op, read[number], weight, bias, groups=groups))
        return torch.cat(results, dim=1)

    return Form(paths=(path,), run=run, held=held)


def split_reads(subject: Subject, node: Node, op: Conv2d) -> Form:
    """Compute a convolution of two ranges of channels, and add both up."""
    path, own = node.path, _own(subject, node)
    sizes = _sizes(op.channels_in, 2)
    first, second = torch.split(own["weight"], sizes, dim=1)
    held = {f"{path}.first.{role}": tensor for role, tensor in {**own, "weight": first}.items()}
    held[f"{path}.second.weight"] = second

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        x = values[node.inputs[0]]
        left, right = x[:, : sizes[0]], x[:, sizes[0] :]
        total = convolved(op, left, tensors[f"{path}.first.weight"], tensors.get(f"{path}.first.bias"))
        return total + convolved(op, right, tensors[f"{path}.second.weight"], None)

    return Form(paths=(path,), run=run, held=held)


def split_sources(subject: Subject, concat: Node, node: Node, op: Conv2d) -> Form:
    """Convolve every value that is joined by itself, and add up."""
    path, own = node.path, _own(subject, node)
    widths = [channels(subject.network, source) for source in concat.inputs]
    pieces = torch.split(own["weight"], widths, dim=1)
    held = {f"{path}.from{number}.weight": piece for number, piece in enumerate(pieces)}
    if op.bias:
        held[f"{path}.bias"] = own["bias"]

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        total: Tensor | None = None
        for number, source in enumerate(concat.inputs):
            bias = tensors.get(f"{path}.bias") if number == 0 else None
            one = convolved(op, values[source], tensors[f"{path}.from{number}.weight"], bias)
            total = one if total is None else total + one
        return torch.empty(0) if total is None else total

    return Form(paths=(concat.path, path), run=run, held=held)


def space_to_batch(subject: Subject, nodes: Sequence[Node], op: Conv2d) -> Form:
    """Compute an atrous convolution of every rate-th pixel, the others in the batch, and crop.

    Args:
        subject: The network.
        nodes: The convolution, and the normalisation and activation that run before the crop.
        op: The convolution.
    """
    del subject
    conv, *rest = nodes
    rate = op.rate[0]

    def run(values: Tensors, held: Tensors) -> Tensor:
        x = values[conv.inputs[0]]
        n, c, h, w = x.shape
        x = functional.pad(x, (0, -w % rate, 0, -h % rate))
        tall, wide = x.shape[2] // rate, x.shape[3] // rate
        x = x.reshape(n, c, tall, rate, wide, rate).permute(3, 5, 0, 1, 2, 4).reshape(rate * rate * n, c, tall, wide)
        weight, bias = held[f"{conv.path}.weight"], held.get(f"{conv.path}.bias")
        x = functional.conv2d(x, weight, bias, padding=_margins(op)[0] // rate, groups=op.groups)
        for node in rest:
            x = _normalised(node, x, held) if isinstance(node.op, BatchNorm) else x.relu()
        x = x.reshape(rate, rate, n, -1, tall, wide).permute(2, 3, 4, 0, 5, 1).reshape(n, -1, tall * rate, wide * rate)
        return x[:, :, :h, :w]

    return Form(paths=tuple(node.path for node in nodes), run=run)


def _normalised(node: Node, x: Tensor, held: Tensors) -> Tensor:
    mean, variance = held[f"{node.path}.running_mean"], held[f"{node.path}.running_var"]
    eps = node.op.eps if isinstance(node.op, BatchNorm) else 0.0
    return functional.batch_norm(x, mean, variance, held[f"{node.path}.weight"], held[f"{node.path}.bias"], eps=eps)


def _margins(op: Conv2d) -> Margins:
    return (0, 0, 0, 0) if op.padding == "same" else op.padding


def _own(subject: Subject, node: Node) -> dict[str, Tensor]:
    found = {role: subject.weights.get(f"{node.path}.{role}") for role in ("weight", "bias")}
    return {role: tensor for role, tensor in found.items() if tensor is not None}


def _sizes(total: int, parts: int) -> list[int]:
    """Return uneven sizes, so that parts cannot be mistaken for each other."""
    first = max(1, total // parts - 1)
    return [*[first] * (parts - 1), total - first * (parts - 1)]
