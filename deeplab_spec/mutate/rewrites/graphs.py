"""Rewrites of the graph: other graphs of the same function, with the weights that belong to them."""

import random
from collections.abc import Collection, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.analysis.intervals import never_negative
from deeplab_spec.analysis.sizes import channels_of
from deeplab_spec.execute.interpreter import conv_margins, step
from deeplab_spec.execute.weights import folded_weights
from deeplab_spec.graph.folding import foldable, folded
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, ActivationKind, BatchNorm, Concat, Conv2d, Dropout, Input, Op, roles
from deeplab_spec.mutate.mutant import inserted, without
from deeplab_spec.mutate.rewrites.original import Original, RewrittenNetwork, Tensors


def folding(original: Original, norms: Collection[str] | None = None) -> nn.Module:
    """Fold normalisations into the convolutions before them: all, or some."""
    weights = folded_weights(original.network, original.weights, norms)
    return RewrittenNetwork(original.with_network(folded(original.network, norms), weights))


def norms_below(original: Original, *prefixes: str) -> tuple[str, ...]:
    """Return the normalisations of parts of the network that can be folded."""
    return tuple(norm for _, norm in foldable(original.network) if norm.startswith(prefixes))


def every_other_norm(original: Original) -> tuple[str, ...]:
    """Return every second normalisation that can be folded."""
    return tuple(norm for _, norm in foldable(original.network))[::2]


def reordered(original: Original, path: str, order: tuple[int, ...]) -> nn.Module:
    """Concatenate values in another order, with the weights of their readers in that order too.

    ``order`` has the index of the input at each position.
    """
    concat = original.network[path]
    counts = channels_of(original.network)
    widths = [counts[source] for source in concat.inputs]
    starts = [sum(widths[:number]) for number in range(len(widths))]
    channel = [starts[number] + offset for number in order for offset in range(widths[number])]
    inputs = tuple(concat.inputs[number] for number in order)
    network = _edited(original.network, {path: replace(concat, inputs=inputs)})
    return RewrittenNetwork(original.with_network(network, permuted(original, {path: channel})))


def permuted(original: Original, orders: dict[str, list[int]]) -> Tensors:
    """Return the weights of a network with the channels of some values in other orders.

    ``orders`` has the index of the channel at each position, by path of the value. Channel-wise nodes keep an order, up
    to the next convolution that combines all channels.
    """
    weights = dict(original.weights)
    carried: dict[str, Tensor] = {}
    for node in original.network:
        before = carried.get(node.inputs[0]) if node.inputs else None
        mixes = isinstance(node.op, Conv2d) and not node.op.depthwise
        for role in roles(node.op) if before is not None else ():
            if not mixes:
                weights[f"{node.path}.{role}"] = weights[f"{node.path}.{role}"][before]
            elif role == "weight":
                weights[f"{node.path}.{role}"] = weights[f"{node.path}.{role}"][:, before]
        if node.path in orders:
            carried[node.path] = torch.tensor(orders[node.path])
            for role in roles(node.op):
                weights[f"{node.path}.{role}"] = weights[f"{node.path}.{role}"][carried[node.path]]
        elif before is not None and not mixes:
            carried[node.path] = before
    return weights


def channels_permuted(original: Original, path: str) -> nn.Module:
    """Permute the channels of one convolution, up to the next convolution that combines all channels."""
    order = list(range(channels_of(original.network)[path]))
    random.Random(0).shuffle(order)  # noqa: S311 - no secret
    return RewrittenNetwork(original.with_network(original.network, permuted(original, {path: order})))


def rates_of_single_taps(original: Original) -> nn.Module:
    """Give every 1x1 convolution a rate, which has no effect on a single tap."""
    changed = {
        node.path: replace(node, op=replace(node.op, rate=(4, 7)))
        for node in original.network
        if isinstance(node.op, Conv2d) and node.op.pointwise
    }
    return RewrittenNetwork(original.with_network(_edited(original.network, changed)))


def with_activations(original: Original, op: Activation) -> nn.Module:
    """Activate again every input of a convolution that is never negative."""
    positive = never_negative(original.network)
    instead: dict[str, str] = {}
    nodes: list[Node] = []
    for node in original.network:
        if isinstance(node.op, Conv2d) and node.inputs[0] in positive:
            source = node.inputs[0]
            if source not in instead:
                instead[source] = f"{source}.again"
                nodes.append(Node(path=instead[source], op=op, inputs=(source,)))
            node = replace(node, inputs=(instead[source],))  # noqa: PLW2901 - the node with another input
        nodes.append(node)
    return RewrittenNetwork(original.with_network(original.network.with_nodes(nodes)))


LEAKY = Activation(kind=ActivationKind.LEAKY_RELU, slope=0.3)


def without_dropout(original: Original) -> nn.Module:
    """Remove dropout, which does nothing in evaluation."""
    dropouts = [node.path for node in original.network if isinstance(node.op, Dropout)]
    return RewrittenNetwork(original.with_network(without(original.network, dropouts)))


def with_dropout(original: Original, op: Op) -> nn.Module:
    """Insert dropout after every concatenation; it does nothing in evaluation."""
    network = original.network
    for node in original.network:
        if isinstance(node.op, Concat):
            network = inserted(network, node.path, op, f"{node.path}.dropout")
    return RewrittenNetwork(original.with_network(network))


class Shuffled(nn.Module):
    """Runs a graph with PyTorch's layers under random names, in random containers and a random order.

    The graph has one input and one output. The weights are those of the graph, or PyTorch's initial ones; ``flat`` puts
    all layers in one list.
    """

    def __init__(self, network: Network, seed: int, weights: Tensors | None = None, *, flat: bool = False) -> None:
        super().__init__()
        draw = random.Random(seed)  # noqa: S311 - no secret
        owners = [node for node in network if roles(node.op)]
        draw.shuffle(owners)
        self.names: dict[str, str] = {}
        for number, node in enumerate(owners):
            box = "layers" if flat else f"box{draw.randrange(7)}"
            if box not in dict(self.named_children()):
                self.add_module(box, nn.Module())
            name = f"{number}" if flat else f"q{draw.randrange(10**6)}_{number}"
            self.get_submodule(box).add_module(name, _layer(node, weights))
            self.names[node.path] = f"{box}.{name}"
        self.order = tuple(_another_order(network, draw))
        self.eval()

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
            elif isinstance(node.op, Dropout):
                value = nn.functional.dropout(inputs[0], node.op.probability, self.training)
            else:
                value = step(node, inputs, {})
            values[node.path] = value
        return value


class _SameConv(nn.Conv2d):
    """A convolution under the rule ``same``, whose margins depend on the size of the map."""

    def __init__(self, op: Conv2d) -> None:
        super().__init__(op.channels_in, op.channels_out, op.kernel, op.stride, 0, op.rate, op.groups, op.bias)
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a map (n, c, h, w)."""
        return super().forward(functional.pad(x, conv_margins(self.op, x)))


def _layer(node: Node, weights: Tensors | None) -> nn.Module:
    layer: nn.Module
    match node.op:
        case Conv2d(padding=(top, _, left, _)) as op:
            layer = nn.Conv2d(
                op.channels_in, op.channels_out, op.kernel, op.stride, (top, left), op.rate, op.groups, op.bias
            )
        case Conv2d() as op:
            layer = _SameConv(op)
        case BatchNorm() as op:
            layer = nn.BatchNorm2d(op.channels, op.eps, op.momentum, op.affine)
        case op:
            raise TypeError(op)
    if weights is not None:
        own = {role: weights[f"{node.path}.{role}"] for role in roles(node.op)}
        layer.load_state_dict({**layer.state_dict(), **own})
    return layer


def _another_order(network: Network, draw: random.Random) -> Iterator[Node]:
    """Return a random order in which the graph can be executed."""
    waiting, done = list(network), set[str]()
    while waiting:
        ready = [node for node in waiting if all(path in done for path in node.inputs)]
        node = draw.choice(ready)
        waiting.remove(node)
        done.add(node.path)
        yield node


def _edited(network: Network, changed: dict[str, Node]) -> Network:
    return network.with_nodes(changed.get(node.path, node) for node in network)
