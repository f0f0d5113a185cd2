"""Weights of a network that is only a graph: their shapes, and draws of them that can tell faults.

Two draws serve two ends (:class:`Draw`): one in which every operation sees values of every kind,
for comparing step by step; one in which rounding is not amplified, for comparing end to end.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.graph.folding import foldable
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Conv2d, Op


class Draw(StrEnum):
    """What a draw of weights is good at."""

    COVERAGE = "coverage"
    CONDITIONING = "conditioning"


DAMPING: Final = 0.1
"""Factor on the residual branches of a well-conditioned draw."""

NEAR_EPS: Final = 10
"""One channel in so many has a running variance near eps; at least one in every layer."""

LOUD: Final = 12
"""One channel in so many reaches this value, far above 6, where a clipped ReLU shows."""

FEW: Final = 16
"""So few positions have no statistics of their own."""

NEGATIVE: Final = 5
"""One channel in so many has a negative scale."""


def roles(op: Op) -> dict[str, tuple[int, ...]]:
    """Return the tensors that an operation owns: shapes by role.

    >>> roles(BatchNorm(channels=4, eps=1e-3, momentum=0.1, affine=False))
    {'running_mean': (4,), 'running_var': (4,)}
    """
    match op:
        case Conv2d():
            shapes: dict[str, tuple[int, ...]] = {"weight": (op.channels_out, op.channels_in // op.groups, *op.kernel)}
            if op.bias:
                shapes["bias"] = (op.channels_out,)
            return shapes
        case BatchNorm():
            names = ["weight", "bias"] if op.affine else []
            return dict.fromkeys([*names, "running_mean", "running_var"], (op.channels,))
        case _:
            return {}


def challenge(
    network: Network,
    inputs: Mapping[str, Tensor],
    draw: Draw,
    seed: int,
    *,
    keep: Collection[str] | None = None,
    kernels: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], Values]:
    """Draw weights for a network, and run it with them in float64.

    Kernels are asymmetric. Running statistics are those of the values that arrive, so that nothing
    grows or fades over the depth; some channels have a variance near eps, some a negative scale,
    some values far above 6.

    Args:
        network: The graph; opaque operations are not allowed.
        inputs: A float64 tensor by the path of each input.
        draw: What the weights shall be good at.
        seed: Seed of the draw.
        keep: Paths whose values are wanted; all by default.
        kernels: Weights of another draw for the same network, whose convolutions are taken over: the two
            draws differ in the normalisations only.

    Returns:
        The weights by path and role, and the values of the network by path.
    """
    generator = torch.Generator().manual_seed(seed)
    damped = _ends_of_residual_branches(network) if draw is Draw.CONDITIONING else frozenset[str]()
    readers = network.readers()
    left = {path: len(paths) for path, paths in readers.items()}
    weights: dict[str, Tensor] = {}
    values: Values = dict(inputs)
    for node in network:
        if node.path in inputs:
            continue
        arriving = [values[path] for path in node.inputs]
        match node.op:
            case Conv2d() if kernels is not None:
                weights |= {f"{node.path}.{role}": kernels[f"{node.path}.{role}"] for role in roles(node.op)}
            case Conv2d() as op:
                normalised = any(isinstance(network[path].op, BatchNorm) for path in readers[node.path])
                _draw_conv(node.path, op, weights, generator, loud=not normalised)
            case BatchNorm() as op:
                factor = DAMPING if node.path in damped else 1.0
                _draw_norm(node.path, op, arriving[0], factor, weights, generator)
            case _:
                pass
        values[node.path] = step(node, arriving, weights)
        for path in node.inputs:
            left[path] -= 1
            if keep is not None and not left[path] and path not in keep:
                del values[path]
    return weights, values


def _draw_conv(path: str, op: Conv2d, weights: dict[str, Tensor], generator: torch.Generator, *, loud: bool) -> None:
    shapes = roles(op)
    fan_in = op.channels_in // op.groups * op.kernel[0] * op.kernel[1]
    normal = torch.randn(shapes["weight"], generator=generator)  # float32 is drawn several times as fast
    weight = normal.double().mul_((2 / fan_in) ** 0.5)
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
    """Return a mean and a deviation that bring every channel to about one.

    Where a map is too small to have statistics, the mean is put so that the value lies a normal
    draw above it: scaled by its sign, a channel of negative scale becomes negative for certain.
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
    """Find the normalisation that ends the first operand, the main path, of every sum."""
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

    Args:
        network: The network with its normalisations.
        weights: Its tensors by path and role.
        norms: Paths of the normalisations that are folded; all by default.

    Returns:
        Tensors by path and role, without those of the normalisations that were folded.
    """
    found = dict(weights)
    for conv, norm in foldable(network):
        if norms is not None and norm not in norms:
            continue
        op = network[norm].op
        mean, variance = found.pop(f"{norm}.running_mean"), found.pop(f"{norm}.running_var")
        scale = (variance + (op.eps if isinstance(op, BatchNorm) else 0.0)).rsqrt()
        gamma, beta = found.pop(f"{norm}.weight", None), found.pop(f"{norm}.bias", None)
        scale = scale if gamma is None else scale * gamma
        bias = found.get(f"{conv}.bias")
        offset = (-mean if bias is None else bias - mean) * scale
        found[f"{conv}.weight"] = found[f"{conv}.weight"] * scale[:, None, None, None]
        found[f"{conv}.bias"] = offset if beta is None else offset + beta
    return found


def folded_values(
    network: Network, values: Mapping[str, Tensor], norms: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Return the values of the folded network: a convolution has that of its normalisation."""
    found = dict(values)
    for conv, norm in foldable(network):
        if norm in found and (norms is None or norm in norms):
            found[conv] = found.pop(norm)
    return found
