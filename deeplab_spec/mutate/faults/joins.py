"""Wrong sums, concatenations, poolings and resizes."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    Add,
    Concat,
    GlobalAveragePool,
    Op,
    Output,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
)
from deeplab_spec.mutate.faults.channel_counts import reading
from deeplab_spec.mutate.faults.graph_edits import edited, inserted, with_inputs, with_op, without
from deeplab_spec.mutate.mutant import Mutant

_WINDOWS = {
    "maximum instead of mean": Pool(kind=PoolKind.MAX, kernel=(2, 2), stride=(2, 2)),
    "mean of a window": Pool(kind=PoolKind.AVERAGE, kernel=(2, 2), stride=(2, 2)),
    "mean of the neighbours": Pool(
        kind=PoolKind.AVERAGE, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1), count_margin=False
    ),
}


def of_sum(graph: Network, node: Node, channels: Mapping[str, int]) -> Iterator[Mutant]:
    """Return the mutants of one sum."""
    if not isinstance(node.op, Add):
        return
    first, second = node.inputs
    alike = of_middle_flow(graph, node.path)
    for kind, kept in (("skip lost", first), ("main path lost", second)):
        network = _passed(graph, node, kept)
        yield Mutant(kind=kind, path=node.path, attribute="node", network=network, places=alike)
    for kind, value in (("main path twice", first), ("skip twice", second)):
        network = with_inputs(graph, node.path, value, value)
        yield Mutant(kind=kind, path=node.path, attribute="inputs", network=network, places=alike)
    joined = _joined(graph, node, channels)
    if joined is not None:
        yield Mutant(kind="concatenation instead of sum", path=node.path, attribute="node", network=joined)
    swapped = with_inputs(graph, node.path, second, first)
    proof = "a sum is the same in either order"
    yield Mutant(kind="operands swapped", path=node.path, attribute="inputs", network=swapped, proof=proof)


def of_middle_flow(graph: Network, path: str) -> tuple[str, ...]:
    """Return every node of the middle flow, if a path is one: its blocks cannot be told from each other."""
    prefix = "backbone.middle_flow."
    return tuple(node.path for node in graph if path.startswith(prefix) and node.path.startswith(prefix))


def _passed(graph: Network, node: Node, kept: str) -> Network:
    return without(with_inputs(graph, node.path, kept), [node.path]).live()


def _joined(graph: Network, node: Node, channels: Mapping[str, int]) -> Network | None:
    """Return a network that joins what it must add, if nothing but convolutions reads it."""
    doubled = edited(graph, node.path, lambda node: [replace(node, op=Concat(), inputs=node.inputs[:1])])
    return reading(doubled, node.path, *node.inputs, channels=channels)


def of_concatenation(graph: Network, node: Node, channels: Mapping[str, int]) -> Iterator[Mutant]:
    """Return the mutants of one concatenation."""
    if not isinstance(node.op, Concat):
        return
    for number, lost in enumerate(node.inputs, start=1):
        others = tuple(value for value in node.inputs if value != lost)
        network = reading(graph, node.path, *others, channels=channels)
        if network is not None:
            yield Mutant(
                kind="operand lost", detail=f"{number}", path=node.path, attribute="inputs", network=network.live()
            )
        twice = tuple(lost if value == others[0] else value for value in node.inputs)
        network = reading(graph, node.path, *twice, channels=channels)
        if network is not None:
            yield Mutant(
                kind="operand twice", detail=f"{number}", path=node.path, attribute="inputs", network=network.live()
            )
    turned = with_inputs(graph, node.path, *node.inputs[1:], node.inputs[0])
    proof = "the convolutions that read it have their input channels in the same other order"
    yield Mutant(kind="operands turned", path=node.path, attribute="inputs", network=turned, proof=proof)


def of_pooling(graph: Network, node: Node) -> Iterator[Mutant]:
    """Return the mutants of one mean over the map."""
    if isinstance(node.op, GlobalAveragePool):
        for kind, op in _WINDOWS.items():
            yield Mutant(kind=kind, path=node.path, attribute="node", network=_with(graph, node, op))
        squashed = inserted(graph, node.path, Activation(), path="squashed")
        yield Mutant(kind="activation added", path=node.path, attribute="node", network=squashed)


def of_resize(graph: Network, node: Node, maps: Mapping[str, tuple[int, ...]]) -> Iterator[Mutant]:
    """Return the mutants of one resize.

    Args:
        graph: The network.
        node: The resize.
        maps: Channels, height and width of every value at some image's size.
    """
    if not isinstance(node.op, Resize):
        return
    corners = not node.op.align_corners
    yield _changed(graph, node, "corners not aligned", "align_corners", align_corners=corners)
    for mode in (ResizeMode.NEAREST, ResizeMode.BICUBIC):
        yield _changed(graph, node, mode.value, "mode", mode=mode, align_corners=mode is ResizeMode.BICUBIC)
    if isinstance(graph[graph.readers()[node.path][0]].op, Output):
        network = without(graph, [node.path]).live()
        yield Mutant(kind="resize lost", path=node.path, attribute="node", network=network)
    for target in _other_sizes(graph, node, maps):
        network = with_inputs(graph, node.path, node.inputs[0], target)
        yield Mutant(kind="size of", detail=target, path=node.path, attribute="size", network=network)


def _other_sizes(graph: Network, node: Node, maps: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Return one value before a resize for each size but its own."""
    seen = {maps[node.path][1:], (1, 1)}
    for before in graph:
        if before.path == node.path:
            return
        if maps[before.path][1:] not in seen:
            seen.add(maps[before.path][1:])
            yield before.path


def _changed(graph: Network, node: Node, kind: str, attribute: str, /, **fields: object) -> Mutant:
    return Mutant(kind=kind, path=node.path, attribute=attribute, network=with_op(graph, node.path, **fields))


def _with(graph: Network, node: Node, op: Op) -> Network:
    return edited(graph, node.path, lambda node: [replace(node, op=op)])
