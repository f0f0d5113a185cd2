"""A PyTorch module that is built from a graph alone."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.errors import GraphError
from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.execute.weights import fan_in, roles
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Dropout, Input, Opaque, Output

_BUFFERS = frozenset({"running_mean", "running_var"})


class NetworkModule(nn.Module):
    """Runs any network, in evaluation and in training.

    Its parameters and buffers are named by path and role: ``<path>.weight``. Kernels are drawn from the
    default distribution of PyTorch's layers.

    Args:
        network: The graph.

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

        Args:
            inputs: A tensor ``(n, channels, h, w)`` for each input of the network, in order.

        Returns:
            The value of the output; if there are several, the values by name.
        """
        weights = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        images = iter(inputs)
        values: Values = {}
        for node in self.network:
            before = [values[path] for path in node.inputs]
            values[node.path] = next(images) if isinstance(node.op, Input) else self._step(node, before, weights)
        results = {node.op.name: values[node.path] for node in self.network.outputs if isinstance(node.op, Output)}
        return results if len(results) > 1 else next(iter(results.values()))

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
