"""Runs any network in training mode: the oracle, with gradients, and a module that is built from the graph alone.

In the oracle normalisations use the statistics of the batch and return them; :func:`updated_running` computes the
running statistics. Dropout is inactive unless a generator is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.errors import GraphError
from deeplab_spec.execute.interpreter import Values, Weights, step, taps
from deeplab_spec.execute.weights import fan_in
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Dropout, Opaque, roles

PARAMETERS: Final = ("weight", "bias")
"""Roles of trained tensors; the others are running statistics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The values and statistics of a batch in training.

    Attributes:
        values: Values by path.
        statistics: Mean and unbiased variance of every normalisation's input, as ``<path>.running_mean`` and
            ``<path>.running_var``.
    """

    values: Values
    statistics: dict[str, Tensor]


def train(
    network: Network,
    weights: Weights,
    inputs: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
    known: Values | None = None,
) -> Batch:
    """Execute a network in training.

    Inputs are tensors ``(n, channels, h, w)`` by path. Running statistics are not used. ``generator`` draws the dropout
    masks, None for no dropout; nodes with a known value are not executed.

    Raises:
        ValueError: If a normalisation has a single value per channel.
    """
    values: Values = {**(known or {}), **inputs}
    statistics: dict[str, Tensor] = {}
    for node in network:
        if node.path in values:
            continue
        inputs_of_node = [values[path] for path in node.inputs]
        values[node.path] = _step(node, inputs_of_node, weights, statistics, generator)
    return Batch(values=values, statistics=statistics)


def _step(
    node: Node, inputs: list[Tensor], weights: Weights, statistics: dict[str, Tensor], generator: torch.Generator | None
) -> Tensor:
    match node.op:
        case BatchNorm() as op:
            return _norm(node.path, op, inputs[0], weights, statistics)
        case Dropout() as op if generator is not None:
            kept = torch.rand(inputs[0].shape, generator=generator, dtype=inputs[0].dtype) >= op.probability
            return inputs[0] * kept / (1 - op.probability)
        case Conv2d(padding=(top, bottom, left, right)) as op if op.depthwise and op.channels_in == op.channels_out:
            padded = functional.pad(inputs[0], (left, right, top, bottom))
            value: Tensor = _Depthwise.apply(padded, weights[f"{node.path}.weight"], op.stride, op.rate)  # type: ignore[no-untyped-call]
            bias = weights.get(f"{node.path}.bias")
            return value if bias is None else value + bias[:, None, None]
        case _:
            return step(node, inputs, weights)


def _norm(path: str, op: BatchNorm, x: Tensor, weights: Weights, statistics: dict[str, Tensor]) -> Tensor:
    """Normalise with the statistics of the batch, which running ones of zero take over at momentum 1."""
    mean, variance = (x.new_zeros(op.channels) for _ in range(2))
    scale, offset = weights.get(f"{path}.weight"), weights.get(f"{path}.bias")
    value = functional.batch_norm(x, mean, variance, scale, offset, training=True, momentum=1.0, eps=op.eps)
    statistics[f"{path}.running_mean"], statistics[f"{path}.running_var"] = mean, variance
    return value


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution, tap by tap: several times as fast as the framework in float64."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], rate: tuple[int, int]) -> Tensor:  # noqa: ANN401 - the framework's signature
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, rate
        return sum(  # type: ignore[return-value]  # there is at least one tap
            tap * weight[:, 0, row, column, None, None] for (row, column), tap in taps(x, _kernel(weight), stride, rate)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN401 - the framework's signature
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        of_x, of_weight = torch.zeros_like(x), torch.empty_like(weight)
        for (row, column), tap in taps(of_x, _kernel(weight), *ctx.geometry):
            tap.addcmul_(gradient, weight[:, 0, row, column, None, None])
        for (row, column), tap in taps(x, _kernel(weight), *ctx.geometry):
            of_weight[:, 0, row, column] = (tap * gradient).sum(dim=(0, 2, 3))
        return of_x, of_weight, None, None


def _kernel(weight: Tensor) -> tuple[int, int]:
    return (weight.shape[2], weight.shape[3])


def updated_running(running: Weights, statistics: Weights, momenta: Mapping[str, float]) -> dict[str, Tensor]:
    """Return the running statistics after a batch."""
    return {where: running[where] + momenta[where] * (batch - running[where]) for where, batch in statistics.items()}


def gradients(
    network: Network, weights: Weights, inputs: Mapping[str, Tensor], cotangents: Mapping[str, Tensor]
) -> tuple[Batch, dict[str, Tensor]]:
    """Execute a network in training; return the batch, and the gradients of a weighted sum of its outputs.

    ``cotangents`` has the weight of every element of an output, by path; opaque operations are not allowed.
    """
    names = parameter_names(network)
    leaves = {name: weights[name].detach().requires_grad_() for name in names}
    with torch.enable_grad():
        batch = train(network, leaves, inputs)
        total = sum((batch.values[path] * weight).sum() for path, weight in cotangents.items())
        grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)  # type: ignore[arg-type]  # a sum of tensors
    values = {path: value.detach() for path, value in batch.values.items()}
    filled = {
        name: torch.zeros_like(weights[name]) if grad is None else grad for name, grad in zip(names, grads, strict=True)
    }
    return Batch(values=values, statistics=batch.statistics), filled


def parameter_names(network: Network) -> tuple[str, ...]:
    """Return the parameters of a network by path and role, in order."""
    return tuple(f"{node.path}.{role}" for node in network for role in PARAMETERS if role in roles(node.op))


def starting_weights(network: Network, seed: int) -> dict[str, Tensor]:
    """Draw initial weights for training, in float64, that keep the scale of values constant over the depth."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).double()

    weights: dict[str, Tensor] = {}
    for node in network:
        shapes = roles(node.op)
        match node.op:
            case Conv2d() as op:
                weight = torch.randn(shapes["weight"], generator=generator).mul_(fan_in(op) ** -0.5)
                weights[f"{node.path}.weight"] = weight.double()
                if op.bias:
                    weights[f"{node.path}.bias"] = normal(*shapes["bias"]).mul_(0.1)
            case BatchNorm() as op:
                for role in shapes:
                    mean = 1.0 if role == "running_var" else 0.0
                    weights[f"{node.path}.{role}"] = torch.full((op.channels,), mean, dtype=torch.float64)
                if op.affine:
                    weights[f"{node.path}.weight"] += 0.75 + 0.1 * normal(op.channels)
                    weights[f"{node.path}.bias"] += 0.25 * normal(op.channels)
            case _:
                pass
    return weights


_BUFFERS = frozenset({"running_mean", "running_var"})


class NetworkModule(nn.Module):
    """Runs any network, in evaluation and in training.

    Its parameters and buffers are named by path and role: ``<path>.weight``. Kernels are drawn from the
    default distribution of PyTorch's layers.

    Raises:
        GraphError: If the network has an opaque operation.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        for node in network:
            if isinstance(node.op, Opaque):
                raise GraphError(node.path, "must be a known operation", node.op.target)
            for role, shape in roles(node.op).items():
                self._register(node, role, initial_tensor(node, role, shape))

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        """Run the network.

        There is a tensor ``(n, channels, h, w)`` for each input, in order; the values of several outputs are by name.
        """
        weights = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        values: Values = {node.path: image for node, image in zip(self.network.inputs, inputs, strict=True)}
        for node in self.network:
            if node.path not in values:
                self._compute(node, values, weights)
        results = {name: values[path] for name, path in self.network.results.items()}
        return results if len(results) > 1 else next(iter(results.values()))

    def _compute(self, node: Node, values: Values, weights: dict[str, Tensor]) -> None:
        """Put the value of a node to the others."""
        values[node.path] = self._step(node, [values[path] for path in node.inputs], weights)

    def _step(self, node: Node, inputs: list[Tensor], weights: dict[str, Tensor]) -> Tensor:
        match node.op:
            case BatchNorm() as op if self.training:
                mean, variance = weights[f"{node.path}.running_mean"], weights[f"{node.path}.running_var"]
                scale, offset = weights.get(f"{node.path}.weight"), weights.get(f"{node.path}.bias")
                momentum = op.momentum or 0.0
                return functional.batch_norm(inputs[0], mean, variance, scale, offset, True, momentum, op.eps)  # noqa: FBT003
            case Dropout() as op:
                return functional.dropout(inputs[0], op.probability, self.training)
            case _:
                return step(node, inputs, weights)

    def _register(self, node: Node, role: str, tensor: Tensor) -> None:
        owner: nn.Module = self
        for name in node.path.split("."):
            if not hasattr(owner, name):
                owner.add_module(name, nn.Module())
            owner = owner.get_submodule(name)
        if role in _BUFFERS:
            owner.register_buffer(role, tensor)
        else:
            owner.register_parameter(role, nn.Parameter(tensor))


def initial_tensor(node: Node, role: str, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """Return a tensor of a new layer: an identity normalisation, or a kernel from PyTorch's default distribution."""
    if isinstance(node.op, BatchNorm):
        return torch.ones(shape) if role in {"weight", "running_var"} else torch.zeros(shape)
    bound = fan_in(node.op) ** -0.5 if isinstance(node.op, Conv2d) else 1.0
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
