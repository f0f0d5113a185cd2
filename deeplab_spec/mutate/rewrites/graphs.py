"""Other graphs of one function, with the weights that go with them."""

import random
from collections.abc import Collection, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from deeplab_spec.analysis.intervals import never_negative
from deeplab_spec.execute.interpreter import step
from deeplab_spec.execute.weights import folded_weights, roles
from deeplab_spec.graph.folding import foldable, folded
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    Input,
    Op,
)
from deeplab_spec.mutate.rewrites.subject import Rewritten, Subject, Tensors


def folding(subject: Subject, norms: Collection[str] | None = None) -> nn.Module:
    """Fold normalisations into the convolutions before them: all, or some."""
    weights = folded_weights(subject.network, subject.weights, norms)
    return Rewritten(subject.with_network(folded(subject.network, norms), weights))


def norms_below(subject: Subject, *prefixes: str) -> tuple[str, ...]:
    """Return the normalisations of parts of the network that can be folded."""
    return tuple(norm for _, norm in foldable(subject.network) if norm.startswith(prefixes))


def every_other_norm(subject: Subject) -> tuple[str, ...]:
    """Return every second normalisation that can be folded."""
    return tuple(norm for _, norm in foldable(subject.network))[::2]


def reordered(subject: Subject, path: str, order: tuple[int, ...]) -> nn.Module:
    """Join values in another order, with the weights that read them in that order.

    Args:
        subject: The network.
        path: The concatenation.
        order: Which of its inputs stands at each place.
    """
    concat = subject.network[path]
    widths = [channels(subject.network, source) for source in concat.inputs]
    starts = [sum(widths[:number]) for number in range(len(widths))]
    channel = [starts[number] + offset for number in order for offset in range(widths[number])]
    inputs = tuple(concat.inputs[number] for number in order)
    network = _edited(subject.network, {path: replace(concat, inputs=inputs)})
    return Rewritten(subject.with_network(network, permuted(subject, {path: channel})))


def permuted(subject: Subject, orders: dict[str, list[int]]) -> Tensors:
    """Return the weights of the network whose values have their channels in other orders.

    Args:
        subject: The network.
        orders: Which channel stands at each place, by the path of the value; what treats channels alike keeps it,
            up to the next convolution that reads all of them.
    """
    found = dict(subject.weights)
    carried: dict[str, Tensor] = {}
    for node in subject.network:
        before = carried.get(node.inputs[0]) if node.inputs else None
        mixes = isinstance(node.op, Conv2d) and not node.op.depthwise
        for role in roles(node.op) if before is not None else ():
            if not mixes:
                found[f"{node.path}.{role}"] = found[f"{node.path}.{role}"][before]
            elif role == "weight":
                found[f"{node.path}.{role}"] = found[f"{node.path}.{role}"][:, before]
        if node.path in orders:
            carried[node.path] = torch.tensor(orders[node.path])
            for role in roles(node.op):
                found[f"{node.path}.{role}"] = found[f"{node.path}.{role}"][carried[node.path]]
        elif before is not None and not mixes:
            carried[node.path] = before
    return found


def channels_permuted(subject: Subject, path: str) -> nn.Module:
    """Compute the channels of one convolution in another order, up to the convolution that reads all of them."""
    count = channels(subject.network, path)
    order = list(range(count))
    random.Random(0).shuffle(order)  # noqa: S311 - no secret
    return Rewritten(subject.with_network(subject.network, permuted(subject, {path: order})))


def rates_of_single_taps(subject: Subject) -> nn.Module:
    """Give every 1x1 convolution a rate, which has no effect."""
    changed = {
        node.path: replace(node, op=replace(node.op, rate=(4, 7)))
        for node in subject.network
        if isinstance(node.op, Conv2d) and node.op.pointwise
    }
    return Rewritten(subject.with_network(_edited(subject.network, changed)))


def with_activations(subject: Subject, op: Activation) -> nn.Module:
    """Activate every value that is read by a convolution and never negative once more."""
    positive = never_negative(subject.network)
    instead: dict[str, str] = {}
    nodes: list[Node] = []
    for node in subject.network:
        if isinstance(node.op, Conv2d) and node.inputs[0] in positive:
            source = node.inputs[0]
            if source not in instead:
                instead[source] = f"{source}.again"
                nodes.append(Node(path=instead[source], op=op, inputs=(source,)))
            node = replace(node, inputs=(instead[source],))  # noqa: PLW2901 - the node with another input
        nodes.append(node)
    return Rewritten(subject.with_network(subject.network.with_nodes(nodes)))


LEAKY = Activation(kind=ActivationKind.LEAKY_RELU, slope=0.3)


def without_dropout(subject: Subject) -> nn.Module:
    """Leave dropout out, which does nothing in evaluation."""
    instead = {node.path: node.inputs[0] for node in subject.network if isinstance(node.op, Dropout)}
    nodes = (
        replace(node, inputs=tuple(instead.get(path, path) for path in node.inputs))
        for node in subject.network
        if node.path not in instead
    )
    taps = tuple((name, instead.get(path, path)) for name, path in subject.network.taps)
    return Rewritten(subject.with_network(Network(nodes=tuple(nodes), taps=taps)))


def with_dropout(subject: Subject, op: Op) -> nn.Module:
    """Put dropout behind every concatenation and before the logits; it does nothing in evaluation."""
    nodes: list[Node] = []
    instead: dict[str, str] = {}
    for node in subject.network:
        nodes.append(replace(node, inputs=tuple(instead.get(path, path) for path in node.inputs)))
        if isinstance(node.op, Concat):
            instead[node.path] = f"{node.path}.dropout"
            nodes.append(Node(path=instead[node.path], op=op, inputs=(node.path,)))
    return Rewritten(subject.with_network(subject.network.with_nodes(nodes)))


class Shuffled(nn.Module):
    """Runs a graph with layers of the framework under drawn names, in drawn containers and orders.

    Args:
        network: The graph, of one input and one output.
        seed: Seed of the names, of the order of definition and of that of execution.
        weights: Its tensors by path and role; those that the framework draws by default.
        flat: Whether all layers stand in one list instead.
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


def _layer(node: Node, weights: Tensors | None) -> nn.Module:
    layer: nn.Module
    match node.op:
        case Conv2d(padding=(top, _, left, _)) as op:
            layer = nn.Conv2d(
                op.channels_in, op.channels_out, op.kernel, op.stride, (top, left), op.rate, op.groups, op.bias
            )
        case BatchNorm() as op:
            layer = nn.BatchNorm2d(op.channels, op.eps, op.momentum, op.affine)
        case op:
            raise TypeError(op)
    if weights is not None:
        own = {role: weights[f"{node.path}.{role}"] for role in roles(node.op)}
        layer.load_state_dict({**layer.state_dict(), **own})
    return layer


def _another_order(network: Network, draw: random.Random) -> Iterator[Node]:
    """Return another order in which the graph can be executed."""
    waiting, done = list(network), set[str]()
    while waiting:
        ready = [node for node in waiting if all(path in done for path in node.inputs)]
        node = draw.choice(ready)
        waiting.remove(node)
        done.add(node.path)
        yield node


def channels(network: Network, path: str) -> int:
    """Return the channels of a value: those of the last operation that makes channels."""
    node = network[path]
    while not isinstance(node.op, Conv2d | BatchNorm):
        if isinstance(node.op, Concat):
            return sum(channels(network, source) for source in node.inputs)
        node = network[node.inputs[0]]
    return node.op.channels_out if isinstance(node.op, Conv2d) else node.op.channels


def _edited(network: Network, changed: dict[str, Node]) -> Network:
    return network.with_nodes(changed.get(node.path, node) for node in network)
