"""Replacements of normalisations, activations, poolings, resizes, sums and concatenations."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Resize, kind, roles
from deeplab_spec.mutate.rewrites.convolutions import NORM_ROLES, convolved, normalised
from deeplab_spec.mutate.rewrites.original import Original, Replacement, Tensors

Unary = Callable[[Tensor], Tensor]


def unary(node: Node, function: Unary) -> Replacement:
    """Compute a node of one input and no parameters by a function."""
    return Replacement(paths=(node.path,), run=lambda values, _: function(values[node.inputs[0]]))


RECTIFIERS: Final[Mapping[str, Unary]] = {
    "twice": lambda x: x.relu().relu(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "threshold": lambda x: functional.threshold(x, 0.0, 0.0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "product": lambda x: x * (x > 0),
    "in place on a copy": lambda x: functional.relu(x.clone(), inplace=True),
    "leaky after it": lambda x: functional.leaky_relu(x.relu(), 0.2),
    "a module": nn.ReLU(),
}

POOLINGS: Final[Mapping[str, Unary]] = {
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "adaptive": lambda x: functional.adaptive_avg_pool2d(x, 1),
    "window of the whole map": lambda x: functional.avg_pool2d(x, x.shape[2:]),
    "rows, then columns": lambda x: x.mean(3, keepdim=True).mean(2, keepdim=True),
    "mean of a flat map": lambda x: x.flatten(2).mean(2)[:, :, None, None],
    "sum over the area": lambda x: x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3]),
}

Scaling = Callable[[Tensor, int, int], Tensor]
"""Resizes a map to a height and a width."""

FROM_A_PIXEL: Final[Mapping[str, Scaling]] = {
    "expand": lambda x, height, width: x.expand(-1, -1, height, width),
    "repeat": lambda x, height, width: x.repeat(1, 1, height, width),
    "nearest": lambda x, height, width: functional.interpolate(x, size=(height, width), mode="nearest"),
    "bicubic": lambda x, height, width: functional.interpolate(
        x, size=(height, width), mode="bicubic", align_corners=True
    ),
    "half pixels": lambda x, height, width: functional.interpolate(
        x, size=(height, width), mode="bilinear", align_corners=False
    ),
}


def interpolated(*, align_corners: bool) -> Scaling:
    """Return the function that PyTorch has for a bilinear resize."""
    return lambda x, height, width: functional.interpolate(
        x, size=(height, width), mode="bilinear", align_corners=align_corners
    )


RESIZES: Final[Mapping[str, Scaling]] = {
    "a function": interpolated(align_corners=True),
    "a module": lambda x, height, width: nn.Upsample(size=(height, width), mode="bilinear", align_corners=True)(x),
    "an older module": lambda x, height, width: nn.UpsamplingBilinear2d(size=(height, width))(x),
    "a factor": lambda x, height, width: functional.interpolate(
        x,
        scale_factor=((height + 0.5) / x.shape[2], (width + 0.5) / x.shape[3]),
        mode="bilinear",
        align_corners=True,
        recompute_scale_factor=True,
    ),
}


def resized(node: Node, function: Scaling) -> Replacement:
    """Compute a resize by a function of the size."""

    def run(values: Tensors, _: Tensors) -> Tensor:
        size = node.op.size if isinstance(node.op, Resize) and node.op.size else values[node.inputs[1]].shape[2:]
        return function(values[node.inputs[0]], size[0], size[1])

    return Replacement(paths=(node.path,), run=run)


Normal = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Tensor]
"""Normalises a value with mean, variance, scale, offset and eps."""


def _per_channel(function: Normal) -> Normal:
    def run(x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, offset: Tensor, eps: float) -> Tensor:
        shape = (1, -1, 1, 1)
        return function(x, mean.view(shape), variance.view(shape), scale.view(shape), offset.view(shape), eps)

    return run


def _frozen(x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, offset: Tensor, eps: float) -> Tensor:
    factor = scale * (variance + eps).rsqrt()
    return x * factor + (offset - mean * factor)


NORMALS: Final[Mapping[str, Normal]] = {
    "a function": lambda x, mean, variance, scale, offset, eps: functional.batch_norm(
        x, mean, variance, scale, offset, eps=eps
    ),
    "a reciprocal root": _per_channel(
        lambda x, mean, variance, scale, offset, eps: (x - mean) * torch.rsqrt(variance + eps) * scale + offset
    ),
    "a quotient": _per_channel(
        lambda x, mean, variance, scale, offset, eps: scale * ((x - mean) / (variance + eps).sqrt()) + offset
    ),
    "a factor and a shift": _per_channel(_frozen),
    "a power": _per_channel(
        lambda x, mean, variance, scale, offset, eps: offset + (x - mean) * (scale * (variance + eps) ** -0.5)
    ),
}


def normalised_by(node: Node, function: Normal) -> Replacement:
    """Compute a normalisation by a function of its statistics and parameters."""
    eps = node.op.eps if isinstance(node.op, BatchNorm) else 0.0

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        mean, variance, scale, offset = (tensors[f"{node.path}.{role}"] for role in NORM_ROLES)
        return function(values[node.inputs[0]], mean, variance, scale, offset, eps)

    return Replacement(paths=(node.path,), run=run)


Sum = Callable[[Tensor, Tensor], Tensor]

SUMS: Final[Mapping[str, Sum]] = {
    "the other way round": lambda x, y: y + x,
    "a function": lambda x, y: torch.add(x, y, alpha=1),
    "in place on a copy": lambda x, y: x.clone().add_(y),
}


def summed(node: Node, function: Sum) -> Replacement:
    """Compute a sum by a function of its operands."""
    return Replacement(paths=(node.path,), run=lambda values, _: function(*(values[path] for path in node.inputs)))


def nested(node: Node) -> Replacement:
    """Concatenate the inputs one by one."""

    def run(values: Tensors, _: Tensors) -> Tensor:
        first, *rest = (values[path] for path in node.inputs)
        for value in rest:
            first = torch.cat([first, value], dim=-3)
        return first

    return Replacement(paths=(node.path,), run=run)


def concatenated_first(original: Original, concat: Node, branches: Mapping[str, tuple[Node, ...]]) -> Replacement:
    """Compute the last nodes of neighbouring branches of a concatenation together, on their concatenated inputs.

    ``branches`` has the last nodes of every branch by the path of the concatenation's input: at most a convolution, a
    normalisation and an activation, alike in all branches.
    """
    ends = list(branches.values())
    parameters = {
        f"{concat.path}.{kind}.{role}": torch.cat([original.weights[f"{node.path}.{role}"] for node in nodes])
        for kind, nodes in _owners(ends)
        for role in roles(nodes[0].op)
    }

    def run(values: Tensors, tensors: Tensors) -> Tensor:
        x = torch.cat([values[end[0].inputs[0]] for end in ends], dim=1)
        for node in ends[0]:
            x = _together(f"{concat.path}.{kind(node.op)}", node, len(ends), x, tensors)
        places = [path in branches for path in concat.inputs]
        first = places.index(True)
        before = [values[path] for path in concat.inputs[:first]]
        return torch.cat([*before, x, *(values[path] for path in concat.inputs[first + sum(places) :])], dim=1)

    return Replacement(
        paths=(*(node.path for end in ends for node in end), concat.path), run=run, parameters=parameters
    )


def _owners(ends: list[tuple[Node, ...]]) -> Iterator[tuple[str, tuple[Node, ...]]]:
    """Return the nodes with parameters, position by position, with their kind."""
    for nodes in zip(*ends, strict=True):
        if roles(nodes[0].op):
            yield kind(nodes[0].op), nodes


def _together(path: str, node: Node, count: int, x: Tensor, tensors: Tensors) -> Tensor:
    match node.op:
        case Conv2d() as op:
            return convolved(op, x, tensors[f"{path}.weight"], tensors.get(f"{path}.bias"), groups=count)
        case BatchNorm() as op:
            return normalised(path, op, x, tensors)
        case _:
            return x.relu()


NEUTRAL: Final[Mapping[str, Unary]] = {
    "times one": lambda x: x * 1,
    "plus zero": lambda x: x + 0,
    "a copy": lambda x: x.clone(),
    "identity and dropout of nothing": lambda x: functional.dropout(nn.Identity()(x), 0.0, training=False),
    "there and back": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "flat and back": lambda x: torch.unflatten(x.flatten(2), 2, x.shape[2:]),
}


def followed(node: Node, function: Unary) -> Replacement:
    """Apply the ReLU, then a function that changes nothing."""
    return unary(node, lambda x: function(x.relu()))
