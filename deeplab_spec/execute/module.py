"""A network as a module of PyTorch: what has no code of its own is built from its graph alone."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.errors import GraphError
from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.execute.weights import roles
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Dropout, Input, Opaque, Output

_BUFFERS = frozenset({"running_mean", "running_var"})


class NetworkModule(nn.Module):
    """Runs any network, in evaluation and in training.

    Its parameters and buffers are named by path and role, as everywhere: ``<path>.weight``. Kernels are
    drawn as PyTorch draws those of its layers.

    Args:
        network: The graph.

    Raises:
        GraphError: If the network has an operation that the specification does not know.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        for node in network:
            if isinstance(node.op, Opaque):
                raise GraphError(node.path, "nothing runs this operation", node.op.target)
            for role, shape in roles(node.op).items():
                self._hold(node, role, initial_tensor(node, role, shape))

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        """Run the network.

        Args:
            inputs: A tensor ``(n, channels, h, w)`` for each input of the network, in order.

        Returns:
            The value of the only output; of several, the values by name.
        """
        held = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        arriving = iter(inputs)
        values: Values = {}
        for node in self.network:
            before = [values[path] for path in node.inputs]
            values[node.path] = next(arriving) if isinstance(node.op, Input) else self._step(node, before, held)
        results = {node.op.name: values[node.path] for node in self.network.outputs if isinstance(node.op, Output)}
        return results if len(results) > 1 else next(iter(results.values()))

    def _step(self, node: Node, inputs: list[Tensor], held: dict[str, Tensor]) -> Tensor:
        match node.op:
            case BatchNorm() as op if self.training:
                mean, variance = held[f"{node.path}.running_mean"], held[f"{node.path}.running_var"]
                scale, offset = held.get(f"{node.path}.weight"), held.get(f"{node.path}.bias")
                momentum = op.momentum or 0.0
                return functional.batch_norm(inputs[0], mean, variance, scale, offset, True, momentum, op.eps)  # noqa: FBT003
            case Dropout() as op:
                return functional.dropout(inputs[0], op.probability, self.training)
            case _:
                return step(node, inputs, held)

    def _hold(self, node: Node, role: str, tensor: Tensor) -> None:
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
    """Return a tensor of a new layer: a normalisation that changes nothing, a kernel as PyTorch draws it."""
    if isinstance(node.op, BatchNorm):
        return torch.ones(shape) if role in {"weight", "running_var"} else torch.zeros(shape)
    op = node.op
    fan_in = op.channels_in // op.groups * op.kernel[0] * op.kernel[1] if isinstance(op, Conv2d) else 1
    return torch.empty(shape).uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
