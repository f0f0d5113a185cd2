"""A mutant: a network with one fault, and the small edits of a graph that make one.

A node is changed, removed, inserted, or takes its input from elsewhere. Paths keep their meaning, so that an edited
node can be found again. An edit may give a network that makes no sense;
:class:`~deeplab_spec.graph.network.Network` refuses a graph that cannot be executed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Concat, Conv2d, Multiply, Op

Shapes = Mapping[str, tuple[int, ...]]
"""Channels, height and width of the values of a network for one image size, by path."""


class Shows(StrEnum):
    """Where a fault shows."""

    EVALUATION = "evaluation"
    TRAINING = "training"
    NOWHERE = "nowhere"
    """The mutant is provably the same function, in evaluation and in training."""


class TrainingFault(StrEnum):
    """A fault in training that the graph does not show."""

    DETACHED = "no gradient passes"
    FROZEN = "statistics of evaluation in training"
    BIASED = "variance without the correction of its bias"
    CHANNELS = "dropout of whole channels"
    WIDE = "initial weights of twice the scale"
    FLAT = "initial weights of another distribution"
    SHIFTED = "initial weights that are not centred"

    @property
    def is_initial(self) -> bool:
        """Whether the fault is in the initial weights, and not in the training steps."""
        return self in {TrainingFault.WIDE, TrainingFault.FLAT, TrainingFault.SHIFTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A network with one fault.

    Attributes:
        kind: What is wrong; faults of one kind have the same words everywhere.
        detail: Tells several of one kind at one node apart, e.g. the value that is read instead.
        path: The node with the fault.
        attribute: What is wrong with the node: a field of its operator, ``node``, ``inputs``, ``size`` or ``training``.
        network: The graph with the fault.
        shows: Where the fault shows.
        other_paths: Other nodes that a report may name, where several descriptions are the same graph.
        training_fault: The fault in training, where the graph has none.
        proof: Why the mutant is the same function in evaluation; empty if it is not.
    """

    kind: str
    detail: str = ""
    path: str
    attribute: str
    network: Network = field(repr=False)
    shows: Shows = Shows.EVALUATION
    other_paths: tuple[str, ...] = ()
    training_fault: TrainingFault | None = None
    proof: str = ""

    @property
    def name(self) -> str:
        """The mutant's name: unique among the mutants of a network, and stable."""
        return f"{self.kind}{self.detail and ' '}{self.detail} at {self.path}"

    @property
    def paths(self) -> frozenset[str]:
        """The nodes that a report may name for the fault."""
        return frozenset((self.path, *self.other_paths))

    @property
    def has_initial_fault(self) -> bool:
        """Whether the fault is in the initial weights."""
        return self.training_fault is not None and self.training_fault.is_initial


def with_node(graph: Network, changed: Node) -> Network:
    """Return a network with one node replaced by another of the same path."""
    return graph.with_nodes(changed if node.path == changed.path else node for node in graph)


def with_inputs(graph: Network, path: str, *inputs: str) -> Network:
    """Return a network in which one node has other inputs.

    Raises:
        GraphError: If an input does not stand before the node.
    """
    return with_node(graph, replace(graph[path], inputs=inputs))


def without(graph: Network, paths: Collection[str]) -> Network:
    """Return a network without some nodes of one input; their readers take that input instead."""
    return graph.without({path: graph[path].inputs[0] for path in paths})


def inserted(graph: Network, after: str, op: Op | None = None, path: str = "inserted") -> Network:
    """Return a network with one more operation after a node, which all readers of the node take their input from.

    Without an operator, it is a ReLU.
    """
    nodes: list[Node] = []
    for node in graph:
        inputs = tuple(path if value == after else value for value in node.inputs)
        nodes.append(replace(node, inputs=inputs))
        if node.path == after:
            nodes.append(Node(path=path, op=op or Activation(), inputs=(after,)))
    return Network(nodes=tuple(nodes), taps=graph.taps)


def with_channels(graph: Network, more: Mapping[str, int]) -> Network | None:
    """Return a network in which convolutions have more output channels, or fewer, and their readers fit.

    ``more`` has the added channels by path of the convolution. None where a sum or a grouped convolution reads the
    changed channels, which fixes their number.
    """
    added: dict[str, int] = {}
    nodes: list[Node] = []
    for node in graph:
        arriving = [added.get(path, 0) for path in node.inputs]
        op = _fitted(node.op, arriving)
        if op is None:
            return None
        added[node.path] = more.get(node.path, 0) + _passed_on(node.op, arriving)
        if isinstance(op, Conv2d) and node.path in more:
            op = replace(op, channels_out=op.channels_out + more[node.path])
        nodes.append(replace(node, op=op))
    return graph.with_nodes(nodes)


def rewired(graph: Network, path: str, *inputs: str, shapes: Shapes) -> Network | None:
    """Return a network in which one node has other inputs that all after it fit; None where a reader cannot."""
    added: dict[str, int] = {}
    nodes: list[Node] = []
    for node in graph:
        read = inputs if node.path == path else node.inputs
        before = [shapes[value][0] for value in node.inputs]
        arriving = [added.get(value, 0) for value in read]
        if node.path == path:
            arriving = [shapes[value][0] - old for value, old in zip(read, before, strict=False)]
            if isinstance(node.op, Concat):
                arriving = [sum(shapes[value][0] for value in read) - sum(before)]
        op = _fitted(node.op, arriving)
        if op is None:
            return None
        added[node.path] = _passed_on(node.op, arriving)
        nodes.append(replace(node, op=op, inputs=read))
    return graph.with_nodes(nodes)


def _fitted(op: Op, arriving: Sequence[int]) -> Op | None:
    """Return the operator for inputs with so many more channels; None if there is none."""
    change = sum(arriving) if isinstance(op, Concat) else next(iter(arriving), 0)
    match op:
        case Conv2d() if change and op.depthwise and op.channels_out == op.channels_in:
            count = op.channels_in + change
            return replace(op, channels_in=count, channels_out=count, groups=count)
        case Conv2d() if change:
            return replace(op, channels_in=op.channels_in + change) if op.groups == 1 else None
        case BatchNorm() if change:
            return replace(op, channels=op.channels + change)
        case Add() | Multiply() if len(set(arriving)) > 1:
            return None
        case _:
            return op


def _passed_on(op: Op, arriving: Sequence[int]) -> int:
    """Return by how many channels the result of an operator grows."""
    match op:
        case Conv2d():
            return arriving[0] if op.depthwise and op.channels_out == op.channels_in else 0
        case Concat():
            return sum(arriving)
        case _:
            return arriving[0] if arriving else 0
