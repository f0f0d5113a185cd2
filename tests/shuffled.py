"""A network under other names: the specification's graph as a module that shares nothing with the reference.

Its layers have drawn names, stand in drawn containers, are defined in a drawn order, and run in
another order of execution where the graph leaves one open.
"""

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn

from deeplab_spec.execute.interpreter import step
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Input


class Shuffled(nn.Module):
    """Runs a graph with layers under drawn names.

    Args:
        network: The graph of a network with one input and one output.
        seed: Seed of the names and of both orders.
    """

    def __init__(self, network: Network, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)  # noqa: S311 - no secret
        owners = [node for node in network if isinstance(node.op, Conv2d | BatchNorm)]
        draw.shuffle(owners)
        self.names: dict[str, str] = {}
        for number, node in enumerate(owners):
            box = f"box{draw.randrange(7)}"
            if box not in dict(self.named_children()):
                self.add_module(box, nn.Module())
            self.names[node.path] = f"{box}.q{draw.randrange(10**6)}_{number}"
            self.get_submodule(box).add_module(self.names[node.path].partition(".")[2], _layer(node))
        self.order = _another_order(network, draw)

    def forward(self, image: Tensor) -> Tensor:
        """Return the value of the output."""
        values: dict[str, Tensor] = {}
        value = image
        for node in self.order:
            inputs = [values[path] for path in node.inputs]
            if isinstance(node.op, Input):
                value = image
            elif node.path in self.names:
                value = self.get_submodule(self.names[node.path])(inputs[0])
            else:
                value = step(node, inputs, {})
            values[node.path] = value
        return value


def _layer(node: Node) -> nn.Module:
    match node.op:
        case Conv2d() as op:
            padding = op.padding if op.padding != "same" else (0, 0, 0, 0)
            return nn.Conv2d(
                op.channels_in,
                op.channels_out,
                op.kernel,
                op.stride,
                (padding[0], padding[2]),
                op.rate,
                op.groups,
                op.bias,
            )
        case BatchNorm() as op:
            return nn.BatchNorm2d(op.channels, op.eps, op.momentum, op.affine)
        case op:
            raise TypeError(op)


def _another_order(network: Network, draw: random.Random) -> list[Node]:
    """Return another order in which the graph can be executed."""
    waiting, done, order = list(network), set[str](), list[Node]()
    while waiting:
        ready = [node for node in waiting if all(path in done for path in node.inputs)]
        node = draw.choice(ready)
        waiting.remove(node)
        done.add(node.path)
        order.append(node)
    return order


def make_trained(module: nn.Module, seed: int) -> nn.Module:
    """Give a module drawn weights, biases and statistics that differ by channel, in place, in float32."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    ranges: dict[str, Callable[[Tensor], Tensor]] = {
        "weight": lambda like: drawn(like, 0.5, 1.5) if like.ndim == 1 else _kernel(like, generator),
        "bias": lambda like: drawn(like, -0.5, 0.5),
        "running_mean": lambda like: drawn(like, -0.5, 0.5),
        "running_var": lambda like: drawn(like, 0.5, 1.5),
        "num_batches_tracked": lambda like: torch.full_like(like, 7),
    }
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            tensor.copy_(ranges[name.rpartition(".")[2]](tensor))
    return module.eval()


def _kernel(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator) * (2 / like[0].numel()) ** 0.5
