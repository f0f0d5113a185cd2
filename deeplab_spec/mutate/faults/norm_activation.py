"""Wrong normalisations, activations and dropouts."""

from collections.abc import Iterator
from dataclasses import replace

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, ActivationKind, BatchNorm, Conv2d, Dropout
from deeplab_spec.mutate.faults.graph_edits import inserted, with_op, without
from deeplab_spec.mutate.mutant import Habit, Mutant, Shows

_KINDS = {
    "ReLU6": Activation(kind=ActivationKind.RELU6),
    "leaky ReLU": Activation(kind=ActivationKind.LEAKY_RELU, slope=0.01),
    "ELU": Activation(kind=ActivationKind.ELU, slope=1.0),
    "GELU": Activation(kind=ActivationKind.GELU),
    "SiLU": Activation(kind=ActivationKind.SILU),
}


def of_norm(graph: Network, node: Node) -> Iterator[Mutant]:
    """Return the mutants of one normalisation."""
    op = node.op
    if not isinstance(op, BatchNorm):
        return
    for kind, eps in (("eps a tenth", op.eps / 10), ("eps tenfold", op.eps * 10), ("eps nearly none", 1e-12)):
        yield _changed(graph, node, kind, "eps", eps=eps)
    yield _changed(graph, node, "no scale and offset", "affine", affine=not op.affine)
    yield _gone(graph, node, "norm lost")
    momentum = op.momentum or 0.0
    for kind, value in (("momentum 0.1", 0.1), ("momentum inverted", 1 - momentum), ("momentum doubled", 2 * momentum)):
        if value != momentum:
            yield replace(_changed(graph, node, kind, "momentum", momentum=value), shows=Shows.TRAINING)
    for habit in (Habit.FROZEN, Habit.BIASED):
        yield _habit(graph, node, habit)


def of_unnormalised(graph: Network, node: Node) -> Iterator[Mutant]:
    """Return the mutant of a convolution that nothing normalises, with a normalisation."""
    readers = graph.readers()[node.path]
    if isinstance(node.op, Conv2d) and not any(isinstance(graph[path].op, BatchNorm) for path in readers):
        norm = BatchNorm(channels=node.op.channels_out, eps=1e-3, momentum=3e-4)
        network = inserted(graph, node.path, norm)
        yield Mutant(kind="norm added", path=node.path, attribute="node", network=network)


def of_activation(graph: Network, node: Node) -> Iterator[Mutant]:
    """Return the mutants of one activation, its place included."""
    if not isinstance(node.op, Activation):
        return
    yield _gone(graph, node, "activation lost")
    for kind, op in _KINDS.items():
        yield _changed(graph, node, kind, "kind", kind=op.kind, slope=op.slope)
    before = graph[node.inputs[0]]
    if isinstance(before.op, BatchNorm | Conv2d) and graph.readers()[before.path] == (node.path,):
        network = inserted(without(graph, [node.path]), before.inputs[0], path="moved")
        if graph.readers()[before.inputs[0]] == (before.path,):
            yield _moved(node, "early", network, (before.inputs[0], before.path))
    readers = graph.readers()[node.path]
    if len(readers) == 1 and isinstance(graph[readers[0]].op, Conv2d):
        network = inserted(without(graph, [node.path]), readers[0], path="moved")
        yield _moved(node, "late", network, readers)


def _moved(node: Node, way: str, network: Network, places: tuple[str, ...]) -> Mutant:
    kind = f"activation one step {way}"
    return Mutant(kind=kind, path=node.path, attribute="node", network=network, places=places)


def of_unactivated(graph: Network, node: Node) -> Iterator[Mutant]:
    """Return the mutant of a value that nothing activates, with a ReLU that all its readers see."""
    readers = graph.readers()[node.path]
    if readers and not any(isinstance(graph[path].op, Activation) for path in (node.path, *readers)):
        kind = "activation added"
        yield Mutant(kind=kind, path=node.path, attribute="node", network=inserted(graph, node.path))


def of_dropout(graph: Network, node: Node) -> Iterator[Mutant]:
    """Return the mutants of one dropout, and of the places where one is often put."""
    if isinstance(node.op, Dropout):
        for kind, rate in (("dropout 0.5", 0.5), ("dropout halved", node.op.probability / 2)):
            yield replace(_changed(graph, node, kind, "probability", probability=rate), shows=Shows.TRAINING)
        yield replace(_gone(graph, node, "dropout lost"), shows=Shows.TRAINING)
        yield _habit(graph, node, Habit.CHANNELS)
    elif _often_dropped(graph, node):
        network = inserted(graph, node.path, Dropout(probability=0.1))
        kind = "dropout added"
        yield Mutant(kind=kind, path=node.path, attribute="node", network=network, shows=Shows.TRAINING)


def _often_dropped(graph: Network, node: Node) -> bool:
    """Tell whether public networks drop a value that this one does not."""
    places = ("aspp.projection.", "decoder.conv")
    readers = graph.readers()[node.path]
    dropped = any(isinstance(graph[path].op, Dropout) for path in readers)
    return node.path.startswith(places) and isinstance(node.op, Activation) and not dropped


def of_training(graph: Network, node: Node) -> Iterator[Mutant]:
    """Return the mutants of a convolution that show only in training: its gradient, its first weights."""
    if isinstance(node.op, Conv2d):
        for habit in (Habit.DETACHED, Habit.WIDE, Habit.FLAT, Habit.SHIFTED):
            yield _habit(graph, node, habit)


def _habit(graph: Network, node: Node, habit: Habit) -> Mutant:
    return Mutant(
        kind=habit.value, path=node.path, attribute="training", network=graph, shows=Shows.TRAINING, habit=habit
    )


def _changed(graph: Network, node: Node, kind: str, attribute: str, /, **fields: object) -> Mutant:
    return Mutant(kind=kind, path=node.path, attribute=attribute, network=with_op(graph, node.path, **fields))


def _gone(graph: Network, node: Node, kind: str) -> Mutant:
    return Mutant(kind=kind, path=node.path, attribute="node", network=without(graph, [node.path]))
