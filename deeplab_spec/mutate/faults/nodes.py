"""The faults that are made at one node: its operator is wrong, missing, or followed by one operator too many."""

from collections.abc import Iterator
from dataclasses import replace

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Input,
    Multiply,
    Output,
    Pool,
    Resize,
)
from deeplab_spec.mutate.faults.operators import operator_faults, planted_node
from deeplab_spec.mutate.mutant import (
    Mutant,
    Shapes,
    Shows,
    TrainingFault,
    inserted,
    rewired,
    with_channels,
    with_inputs,
    with_node,
    without,
)

_TRAINING_ONLY = frozenset({"momentum", "probability"})
"""Attributes that change nothing in evaluation."""

MIDDLE_FLOW = "backbone.middle_flow."

_OFTEN_DROPPED = ("aspp.projection.", "decoder.conv")
"""Parts of the network in which public implementations put a dropout that the published one does not have."""


def node_faults(graph: Network, node: Node, shapes: Shapes) -> Iterator[Mutant]:
    """Return the mutants of one node."""
    match node.op:
        case Conv2d() as op:
            yield from _of_convolution(graph, node, op)
        case BatchNorm():
            yield from _of_norm(graph, node)
        case Activation():
            yield from _of_activation(graph, node)
        case _:
            pass
    yield from _activation_added(graph, node)
    match node.op:
        case Activation():
            yield from _dropout_added(graph, node)
        case Dropout():
            yield from _of_dropout(graph, node)
        case Add():
            yield from _of_sum(graph, node, shapes)
        case Multiply():
            network = without(graph, [node.path]).live()
            yield Mutant(kind="gate lost", path=node.path, attribute="node", network=network)
        case Concat():
            yield from _of_concatenation(graph, node, shapes)
        case GlobalAveragePool():
            yield from _of_operator(graph, node)
            squashed = inserted(graph, node.path, Activation(), path="squashed")
            yield Mutant(kind="activation added", path=node.path, attribute="node", network=squashed)
        case Resize():
            yield from _of_resize(graph, node, shapes)
        case Pool():
            yield from _of_operator(graph, node)


def only_in_training(graph: Network, node: Node) -> Iterator[Mutant]:
    """Return the mutants of a convolution that show only in training: in its gradient or its initial weights."""
    if isinstance(node.op, Conv2d):
        for fault in (TrainingFault.DETACHED, TrainingFault.WIDE, TrainingFault.FLAT, TrainingFault.SHIFTED):
            yield _in_training(graph, node, fault)


def _of_operator(graph: Network, node: Node, *attributes: str) -> Iterator[Mutant]:
    """Return the mutants with a fault of the node's operator: of some attributes, or of all."""
    for fault in operator_faults(node.op):
        if fault.mutant and (not attributes or fault.attribute in attributes):
            yield Mutant(
                kind=fault.kind,
                path=node.path,
                attribute=fault.attribute,
                network=with_node(graph, replace(node, op=fault.op)),
                shows=Shows.TRAINING if fault.attribute in _TRAINING_ONLY else Shows.EVALUATION,
                other_paths=_other_branches(graph, node.path) if fault.attribute == "rate" else (),
            )


def _other_branches(graph: Network, path: str) -> tuple[str, ...]:
    """Return the same convolution in every atrous branch: the branches differ in their rates alone."""
    prefix = "aspp.atrous"
    rest = path.removeprefix(prefix)[1:]
    return tuple(
        node.path
        for node in graph
        if path.startswith(prefix) and node.path.startswith(prefix) and node.path.removeprefix(prefix)[1:] == rest
    )


def _of_convolution(graph: Network, node: Node, op: Conv2d) -> Iterator[Mutant]:
    if op.padding != "same":
        yield from _of_operator(graph, node)
        more = None if op.depthwise else with_channels(graph, {node.path: max(1, op.channels_out // 91)})
        if more is not None:
            yield Mutant(kind="more channels", path=node.path, attribute="channels_out", network=more)
    if not any(isinstance(graph[path].op, BatchNorm) for path in graph.readers()[node.path]):
        norm = BatchNorm(channels=op.channels_out, eps=1e-3, momentum=3e-4)
        network = inserted(graph, node.path, norm)
        yield Mutant(kind="norm added", path=node.path, attribute="node", network=network)


def _of_norm(graph: Network, node: Node) -> Iterator[Mutant]:
    yield from _of_operator(graph, node, "eps", "affine")
    yield _lost(graph, node, "norm lost")
    yield from _of_operator(graph, node, "momentum")
    for fault in (TrainingFault.FROZEN, TrainingFault.BIASED):
        yield _in_training(graph, node, fault)


def _of_activation(graph: Network, node: Node) -> Iterator[Mutant]:
    """Return the mutants of one activation: lost, of another kind, or at the node before or after."""
    yield _lost(graph, node, "activation lost")
    yield from _of_operator(graph, node)
    readers = graph.readers()
    before = graph[node.inputs[0]]
    if isinstance(before.op, BatchNorm | Conv2d) and readers[before.path] == (node.path,):
        source = before.inputs[0]
        if readers[source] == (before.path,):
            yield _moved(graph, node, "early", source, (source, before.path))
    after = readers[node.path]
    if len(after) == 1 and isinstance(graph[after[0]].op, Conv2d):
        yield _moved(graph, node, "late", after[0], after)


def _moved(graph: Network, node: Node, direction: str, after: str, other_paths: tuple[str, ...]) -> Mutant:
    kind = f"activation one step {direction}"
    network = inserted(without(graph, [node.path]), after, path="moved")
    return Mutant(kind=kind, path=node.path, attribute="node", network=network, other_paths=other_paths)


def _activation_added(graph: Network, node: Node) -> Iterator[Mutant]:
    """Return the mutant of a value without activation, with a ReLU that all its readers see."""
    readers = graph.readers()[node.path]
    if readers and not any(isinstance(graph[path].op, Activation) for path in (node.path, *readers)):
        network = inserted(graph, node.path)
        yield Mutant(kind="activation added", path=node.path, attribute="node", network=network)


def _of_dropout(graph: Network, node: Node) -> Iterator[Mutant]:
    yield from _of_operator(graph, node)
    yield replace(_lost(graph, node, "dropout lost"), shows=Shows.TRAINING)
    yield _in_training(graph, node, TrainingFault.CHANNELS)


def _dropout_added(graph: Network, node: Node) -> Iterator[Mutant]:
    dropped = any(isinstance(graph[path].op, Dropout) for path in graph.readers()[node.path])
    if node.path.startswith(_OFTEN_DROPPED) and not dropped:
        network = inserted(graph, node.path, Dropout(probability=0.1))
        kind = "dropout added"
        yield Mutant(kind=kind, path=node.path, attribute="node", network=network, shows=Shows.TRAINING)


def _of_sum(graph: Network, node: Node, shapes: Shapes) -> Iterator[Mutant]:
    first, second = node.inputs
    alike = middle_flow(graph) if node.path.startswith(MIDDLE_FLOW) else ()
    for kind, kept in (("skip lost", first), ("main path lost", second)):
        network = without(with_inputs(graph, node.path, kept), [node.path]).live()
        yield Mutant(kind=kind, path=node.path, attribute="node", network=network, other_paths=alike)
    for kind, value in (("main path twice", first), ("skip twice", second)):
        network = with_inputs(graph, node.path, value, value)
        yield Mutant(kind=kind, path=node.path, attribute="inputs", network=network, other_paths=alike)
    single = with_node(graph, replace(node, op=Concat(), inputs=node.inputs[:1]))
    concatenated = rewired(single, node.path, *node.inputs, shapes=shapes)
    if concatenated is not None:
        kind = "concatenation instead of sum"
        yield Mutant(kind=kind, path=node.path, attribute="node", network=concatenated)
    swapped = with_inputs(graph, node.path, second, first)
    proof = "a sum is the same in either order"
    yield Mutant(kind="operands swapped", path=node.path, attribute="inputs", network=swapped, proof=proof)


def middle_flow(graph: Network) -> tuple[str, ...]:
    """Return every node of the middle flow: its blocks cannot be distinguished."""
    return tuple(node.path for node in graph if node.path.startswith(MIDDLE_FLOW))


def _of_concatenation(graph: Network, node: Node, shapes: Shapes) -> Iterator[Mutant]:
    for number, lost in enumerate(node.inputs, start=1):
        others = tuple(value for value in node.inputs if value != lost)
        twice = tuple(lost if value == others[0] else value for value in node.inputs)
        for kind, inputs in (("operand lost", others), ("operand twice", twice)):
            network = rewired(graph, node.path, *inputs, shapes=shapes)
            if network is not None:
                yield Mutant(kind=kind, detail=f"{number}", path=node.path, attribute="inputs", network=network.live())
    turned = with_inputs(graph, node.path, *node.inputs[1:], node.inputs[0])
    proof = "the convolutions that read it have their input channels in the same other order"
    yield Mutant(kind="operands turned", path=node.path, attribute="inputs", network=turned, proof=proof)


def _of_resize(graph: Network, node: Node, shapes: Shapes) -> Iterator[Mutant]:
    yield from _of_operator(graph, node)
    if isinstance(graph[graph.readers()[node.path][0]].op, Output):
        yield replace(_lost(graph, node, "resize lost"), network=without(graph, [node.path]).live())
    for target in _other_sizes(graph, node, shapes):
        network = with_inputs(graph, node.path, node.inputs[0], target)
        yield Mutant(kind="size of", detail=target, path=node.path, attribute="size", network=network)


def _other_sizes(graph: Network, node: Node, shapes: Shapes) -> Iterator[str]:
    """Return one value before a resize for each size but its own."""
    seen = {shapes[node.path][1:], (1, 1)}
    for before in graph:
        if before.path == node.path:
            return
        if shapes[before.path][1:] not in seen:
            seen.add(shapes[before.path][1:])
            yield before.path


def _in_training(graph: Network, node: Node, fault: TrainingFault) -> Mutant:
    return Mutant(
        kind=fault.value,
        path=node.path,
        attribute="training",
        network=graph,
        shows=Shows.TRAINING,
        training_fault=fault,
    )


def _lost(graph: Network, node: Node, kind: str) -> Mutant:
    return Mutant(kind=kind, path=node.path, attribute="node", network=without(graph, [node.path]))


def planted_fault(graph: Network, node: Node, attribute: str) -> tuple[str, Network] | None:
    """Return the fault of one node and attribute that every run plants, in words, and the network; None if none shows.

    ``attribute`` is ``node``, ``inputs``, or a field of the node's operator.
    """
    if attribute == "node":
        single = isinstance(node.op, Conv2d | BatchNorm | Activation)
        return (f"{node.path} left out", without(graph, [node.path])) if single else None
    if attribute == "inputs":
        return _other_inputs(graph, node)
    found = planted_node(node, attribute)
    return (found[0], with_node(graph, found[1])) if found else None


def _other_inputs(graph: Network, node: Node) -> tuple[str, Network] | None:
    """Take an input from elsewhere; what it was taken from must have another reader, or be an input itself."""
    if isinstance(node.op, Concat):
        last = node.inputs[-1]
        return f"{last} concatenated twice at {node.path}", with_inputs(graph, node.path, *node.inputs, last)
    readers = graph.readers()
    for position, path in enumerate(node.inputs):
        source = graph[path]
        if len(readers[path]) > 1 and source.inputs:
            instead = source.inputs[0]
        elif isinstance(source.op, Input) and len(graph.inputs) > 1:
            instead = next(other.path for other in graph.inputs if other.path != path)
        else:
            continue
        inputs = (*node.inputs[:position], instead, *node.inputs[position + 1 :])
        return f"{instead} read at {node.path}", with_inputs(graph, node.path, *inputs)
    return None
