"""Weights of a graph: their shapes, draws that reveal faults, and folded normalisations.

There are two kinds of draw (:class:`Draw`): in one, every operation gets values of every kind, for
comparing node by node; in the other, rounding is not amplified, for comparing end to end.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.execute.interpreter import Values, run
from deeplab_spec.graph.folding import foldable
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Conv2d, roles


class Draw(StrEnum):
    """The purpose of a draw of weights."""

    COVERAGE = "coverage"
    CONDITIONING = "conditioning"


DAMPING: Final = 0.1
"""Factor on the residual branches of a well-conditioned draw."""

NEAR_EPS: Final = 10
"""One channel in this many has a running variance near eps; at least one in every layer."""

LOUD: Final = 12
"""One channel in this many reaches this value, far above 6, where a clipped ReLU differs."""

FEW: Final = 16
"""Maps with fewer positions have no usable statistics."""

NEGATIVE: Final = 5
"""One channel in this many has a negative scale."""


def fan_in(op: Conv2d) -> int:
    """Return the number of products in one output value of a convolution."""
    return op.channels_in // op.groups * op.kernel[0] * op.kernel[1]


def challenge(
    network: Network,
    inputs: Mapping[str, Tensor],
    draw: Draw,
    seed: int,
    *,
    keep: Collection[str] | None = None,
    kernels: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], Values]:
    """Draw weights for a network, and run it with them in float64; return both by path.

    Kernels are asymmetric. Running statistics are those of the layer's input, so the scale of values
    stays constant over the depth. Some channels have a variance near eps, some a negative scale, and some
    values far above 6.

    ``keep`` has the paths whose values are returned, all by default. ``kernels`` are weights of another draw, whose
    convolutions are reused, so that the two draws differ in the normalisations only.
    """
    generator = torch.Generator().manual_seed(seed)
    damped = _ends_of_residual_branches(network) if draw is Draw.CONDITIONING else frozenset[str]()
    readers = network.readers()
    weights: dict[str, Tensor] = {}

    def draw_weights(node: Node, before: list[Tensor]) -> None:
        match node.op:
            case Conv2d() if kernels is not None:
                weights.update({f"{node.path}.{role}": kernels[f"{node.path}.{role}"] for role in roles(node.op)})
            case Conv2d() as op:
                normalised = any(isinstance(network[path].op, BatchNorm) for path in readers[node.path])
                _draw_conv(node.path, op, weights, generator, loud=not normalised)
            case BatchNorm() as op:
                factor = DAMPING if node.path in damped else 1.0
                _draw_norm(node.path, op, before[0], factor, weights, generator)
            case _:
                pass

    return weights, run(network, weights, inputs, keep=keep, prepare=draw_weights)


def _draw_conv(path: str, op: Conv2d, weights: dict[str, Tensor], generator: torch.Generator, *, loud: bool) -> None:
    shapes = roles(op)
    normal = torch.randn(shapes["weight"], generator=generator)  # drawing float32 is several times as fast
    weight = normal.double().mul_((2 / fan_in(op)) ** 0.5)  # float32 rounds them: that is part of its own error
    if loud:
        weight[::LOUD] *= LOUD
    weights[f"{path}.weight"] = weight
    if op.bias:
        bias = torch.randn(shapes["bias"], generator=generator, dtype=torch.float64) * 0.5
        if loud:
            bias[::3] += LOUD
            bias[1::3] -= LOUD
        weights[f"{path}.bias"] = bias


def _draw_norm(
    path: str, op: BatchNorm, x: Tensor, factor: float, weights: dict[str, Tensor], generator: torch.Generator
) -> None:
    def normal() -> Tensor:
        return torch.randn(op.channels, generator=generator, dtype=torch.float64)

    def uniform(count: int) -> Tensor:
        return torch.rand(count, generator=generator, dtype=torch.float64)

    order = torch.randperm(op.channels, generator=generator)
    loud, negative, quiet = order[::LOUD], order[1::NEGATIVE], order[2 % op.channels :: NEAR_EPS]
    sign, spread, offset = torch.ones(op.channels, dtype=torch.float64), 0.5 + uniform(op.channels), normal() * 0.5
    sign[negative] = -1.0
    sign[loud] = 1.0
    mean, deviation = _statistics(x, normal())
    highest = (x.amax(dim=(0, 2, 3)) - mean) / deviation
    spread[loud] = (LOUD / highest.clamp_min(0.5))[loud].clamp_min(1.0)
    offset[loud] = offset[negative] = 0.0
    variance = deviation.square()
    variance[quiet] = op.eps * (0.5 + uniform(len(quiet)))
    weights[f"{path}.running_mean"] = mean
    weights[f"{path}.running_var"] = variance
    if op.affine:
        weights[f"{path}.weight"] = sign * spread * (variance + op.eps).sqrt() / deviation * factor
        weights[f"{path}.bias"] = offset * factor


def _statistics(x: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """Return a mean and a deviation that normalise every channel.

    For a map that is too small to have statistics, the mean is below the value by a random distance: a
    channel of negative scale then becomes negative for certain.
    """
    mean = x.mean(dim=(0, 2, 3))
    if x.shape[0] * x.shape[2] * x.shape[3] < FEW:
        deviation = mean.abs().mean().clamp_min(1e-3).expand_as(mean).clone()
        return mean - deviation * (0.5 + normal.abs()), deviation
    mean_square = torch.linalg.vector_norm(x, dim=(0, 2, 3)).square() * x.shape[1] / x.numel()
    deviation = (mean_square - mean.square()).clamp_min(0).sqrt()
    constant = deviation < 1e-4 * deviation.max().clamp_min(1e-3)
    return mean, deviation.masked_fill(constant, 1.0)


def _ends_of_residual_branches(network: Network) -> frozenset[str]:
    """Return the last normalisation of the first operand, the main path, of every sum."""
    ends = set()
    for node in network:
        if isinstance(node.op, Add):
            last = network[node.inputs[0]]
            while isinstance(last.op, Activation):
                last = network[last.inputs[0]]
            if isinstance(last.op, BatchNorm):
                ends.add(last.path)
    return frozenset(ends)


def folded_weights(
    network: Network, weights: Mapping[str, Tensor], norms: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Return the weights of the folded network (:func:`deeplab_spec.graph.folding.folded`).

    ``norms`` are the normalisations to fold; all by default.
    """
    result = dict(weights)
    for conv, norm in foldable(network):
        if norms is not None and norm not in norms:
            continue
        op = network[norm].op
        mean, variance = result.pop(f"{norm}.running_mean"), result.pop(f"{norm}.running_var")
        scale = (variance + (op.eps if isinstance(op, BatchNorm) else 0.0)).rsqrt()
        gamma, beta = result.pop(f"{norm}.weight", None), result.pop(f"{norm}.bias", None)
        scale = scale if gamma is None else scale * gamma
        bias = result.get(f"{conv}.bias")
        offset = (-mean if bias is None else bias - mean) * scale
        result[f"{conv}.weight"] = result[f"{conv}.weight"] * scale[:, None, None, None]
        result[f"{conv}.bias"] = offset if beta is None else offset + beta
    return result


def folded_values(
    network: Network, values: Mapping[str, Tensor], norms: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Return the values of the folded network: a convolution has the value of its normalisation."""
    result = dict(values)
    for conv, norm in foldable(network):
        if norm in result and (norms is None or norm in norms):
            result[conv] = result.pop(norm)
    return result
