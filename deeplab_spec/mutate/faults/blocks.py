"""Wrong blocks: one too few, one too many, a layer lost, channels moved from one to another."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Add
from deeplab_spec.mutate.faults.channel_counts import with_channels
from deeplab_spec.mutate.mutant import Mutant

_MIDDLE = re.compile(r"(backbone\.middle_flow\.block\d+)\.add$")


def of_blocks(graph: Network) -> Iterator[Mutant]:
    """Return the mutants of the middle flow's blocks: none can be told from another, so any may be named."""
    blocks = [found[1] for node in graph if (found := _MIDDLE.match(node.path))]
    anywhere = tuple(node.path for node in graph if node.path.startswith("backbone.middle_flow."))
    for block in blocks:
        network = _without_block(graph, block)
        yield Mutant(kind="block lost", path=f"{block}.add", attribute="node", network=network, places=anywhere)
        network = _twice(graph, block)
        yield Mutant(kind="block twice", path=f"{block}.add", attribute="node", network=network, places=anywhere)
    for left, right in pairwise(blocks):
        conv = "sepconv1.pointwise.conv"
        more = {f"{left}.{conv}": 1, f"{right}.{conv}": -1}
        moved = with_channels(graph, more)
        if moved is not None:
            kind = "a channel moved to the block before"
            places = tuple(more)
            yield Mutant(kind=kind, path=f"{left}.{conv}", attribute="channels_out", network=moved, places=places)


def of_layers(graph: Network) -> Iterator[Mutant]:
    """Return the mutants that lack one separable layer of equal channels, with all that belongs to it."""
    layers: dict[str, list[Node]] = {}
    for node in graph:
        found = re.match(r"(.*\.sepconv\d|decoder\.conv\d)\.", node.path)
        if found:
            layers.setdefault(found[1], []).append(node)
    for layer, nodes in layers.items():
        inside = {node.path for node in nodes}
        first = next(value for value in nodes[0].inputs if value not in inside)
        network = _bypassed(graph, inside, nodes[-1].path, first)
        block = layer.rpartition(".")[0]
        alike = tuple(node.path for node in graph if node.path.startswith(f"{block}."))
        yield Mutant(kind="layer lost", path=layer, attribute="node", network=network, places=alike)


def _bypassed(graph: Network, inside: set[str], last: str, first: str) -> Network:
    nodes = [
        replace(node, inputs=tuple(first if value == last else value for value in node.inputs))
        for node in graph
        if node.path not in inside
    ]
    taps = tuple((name, first if path in inside else path) for name, path in graph.taps)
    return Network(nodes=tuple(nodes), taps=taps)


def _inside(graph: Network, block: str) -> tuple[set[str], str]:
    """Return the nodes of a block whose skip is the block's input, and that input."""
    inside = {node.path for node in graph if node.path.startswith(f"{block}.")}
    add = graph[f"{block}.add"]
    return inside, next(value for value in add.inputs if value not in inside)


def _without_block(graph: Network, block: str) -> Network:
    inside, first = _inside(graph, block)
    return _bypassed(graph, inside, f"{block}.add", first)


def _twice(graph: Network, block: str) -> Network:
    """Return the network in which a block follows itself, with weights of its own."""
    inside, first = _inside(graph, block)
    last = f"{block}.add"
    names = {path: path.replace(block, f"{block}b") for path in inside} | {first: last}
    copies = [
        replace(graph[node.path], path=names[node.path], inputs=tuple(names[value] for value in node.inputs))
        for node in graph
        if node.path in inside
    ]
    nodes: list[Node] = []
    for node in graph:
        before = node.path in inside
        read = node.inputs if before else tuple(names[last] if value == last else value for value in node.inputs)
        nodes.append(replace(node, inputs=read))
        if node.path == last and isinstance(node.op, Add):
            nodes += copies
    return graph.with_nodes(nodes)
