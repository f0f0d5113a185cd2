"""The mutants that are made of several nodes: an input from another node, a block or a layer lost or repeated."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Add, Concat, Conv2d, Resize
from deeplab_spec.mutate.faults.nodes import middle_flow
from deeplab_spec.mutate.mutant import Mutant, Shapes, rewired, with_channels, with_inputs

_TAP_READER = "decoder.low_level.conv"
_EARLY = ("backbone.entry_flow.", "backbone.stem.", "backbone.layer1.", "backbone.block2.", "backbone.block3.")
"""Where the values of stride 4 and less are, in the paths of every family."""

_MAIN = ("sepconv", "conv", "expansion", "depthwise", "gate", "projection")
"""The layers of a block's main path, in the paths of every family."""

_MIDDLE_BLOCK = re.compile(r"(backbone\.middle_flow\.block\d+)\.add$")


def of_tap(graph: Network, shapes: Shapes) -> Iterator[Mutant]:
    """Return the mutants whose decoder takes its low-level features from another early node."""
    if _TAP_READER not in graph:
        return
    read = graph[_TAP_READER].inputs[0]
    for node in graph:
        if node.path.startswith(_EARLY) and node.path != read and not node.path.endswith(".conv"):
            network = rewired(graph, _TAP_READER, node.path, shapes=shapes)
            if network is not None:
                detail = node.path.removeprefix(_EARLY[0])
                yield Mutant(kind="tap at", detail=detail, path=_TAP_READER, attribute="inputs", network=network)


def of_encoder(graph: Network, shapes: Shapes) -> Iterator[Mutant]:
    """Return the mutants whose decoder or projection takes the features of the backbone, past the pyramid."""
    features = next(node.inputs[0] for node in graph if node.path.startswith("aspp."))
    readers = [node for node in graph if isinstance(node.op, Resize) and node.path == "decoder.resize"]
    for node in (*readers, graph["aspp.projection.conv"]):
        inputs = (features, *node.inputs[1:])
        network = rewired(graph, node.path, *inputs, shapes=shapes)
        if network is not None:
            kind = "features of the backbone instead"
            yield Mutant(kind=kind, path=node.path, attribute="inputs", network=network.live())


def of_reader(graph: Network, node: Node, shapes: Shapes) -> Iterator[Mutant]:
    """Return the mutants in which one node reads an operand of a sum or a ReLU instead of its result.

    The result has other readers too: with one reader, the node would be missing.
    """
    readers = graph.readers()
    for value in dict.fromkeys(node.inputs):
        before = graph[value]
        if isinstance(node.op, Concat) or len(readers[value]) < 2:  # noqa: PLR2004 - this reader and another
            continue
        for number, past in enumerate(_past(before), start=1):
            if shapes[past] == shapes[value]:
                inputs = tuple(past if path == value else path for path in node.inputs)
                detail = f"{value} on its input {number}"
                network = with_inputs(graph, node.path, *inputs).live()
                yield Mutant(
                    kind="reads past",
                    detail=detail,
                    path=node.path,
                    attribute="inputs",
                    network=network,
                    other_paths=(value,),
                )


def _past(node: Node) -> tuple[str, ...]:
    return node.inputs if isinstance(node.op, Add | Activation) else ()


def of_skip(graph: Network, node: Node, shapes: Shapes) -> Iterator[Mutant]:
    """Return the mutants of a skip connection: it reads a value of the main path instead of the block's input.

    An in-place activation at the start of a block has this effect on the skip.
    """
    if not isinstance(node.op, Add):
        return
    block = node.path.removesuffix(".add")
    conv = f"{block}.skip.conv"
    reader, read = (conv, graph[conv].inputs[0]) if conv in graph else (node.path, node.inputs[1])
    layers = tuple(f"{block}.{layer}" for layer in _MAIN)
    main = [inner for inner in graph if inner.path.startswith(layers) and not isinstance(inner.op, Conv2d)]
    for inner in main:
        if shapes[inner.path] == shapes[read] and inner.path != node.inputs[0]:
            inputs = (inner.path,) if reader == conv else (node.inputs[0], inner.path)
            network = _ordered(graph, reader, inner.path, inputs)
            detail = inner.path.removeprefix(f"{block}.")
            yield Mutant(kind="skip reads", detail=detail, path=reader, attribute="inputs", network=network)


def _ordered(graph: Network, reader: str, value: str, inputs: tuple[str, ...]) -> Network:
    """Return the network with other inputs of the reader, moved after the value where it stands before it."""
    nodes = list(graph)
    names = [node.path for node in nodes]
    if names.index(reader) < names.index(value):
        moved = nodes.pop(names.index(reader))
        nodes.insert(names.index(value), moved)
    return with_inputs(graph.with_nodes(nodes), reader, *inputs)


def of_blocks(graph: Network) -> Iterator[Mutant]:
    """Return the mutants of the middle flow's blocks; the blocks are alike, so a report may name any of them."""
    blocks = [found[1] for node in graph if (found := _MIDDLE_BLOCK.match(node.path))]
    anywhere = middle_flow(graph)
    for block in blocks:
        inside, first = _inside(graph, block)
        network = graph.without(dict.fromkeys(inside, first))
        yield Mutant(kind="block lost", path=f"{block}.add", attribute="node", network=network, other_paths=anywhere)
        network = _twice(graph, block)
        yield Mutant(kind="block twice", path=f"{block}.add", attribute="node", network=network, other_paths=anywhere)
    for left, right in pairwise(blocks):
        conv = "sepconv1.pointwise.conv"
        more = {f"{left}.{conv}": 1, f"{right}.{conv}": -1}
        moved = with_channels(graph, more)
        if moved is not None:
            kind = "a channel moved to the block before"
            paths = tuple(more)
            yield Mutant(kind=kind, path=f"{left}.{conv}", attribute="channels_out", network=moved, other_paths=paths)


def of_layers(graph: Network) -> Iterator[Mutant]:
    """Return the mutants without one separable layer: its convolutions, normalisations and activations."""
    layers: dict[str, list[Node]] = {}
    for node in graph:
        found = re.match(r"(.*\.sepconv\d|decoder\.conv\d)\.", node.path)
        if found:
            layers.setdefault(found[1], []).append(node)
    for layer, nodes in layers.items():
        inside = {node.path for node in nodes}
        first = next(value for value in nodes[0].inputs if value not in inside)
        network = graph.without(dict.fromkeys(inside, first))
        block = layer.rpartition(".")[0]
        alike = tuple(node.path for node in graph if node.path.startswith(f"{block}."))
        yield Mutant(kind="layer lost", path=layer, attribute="node", network=network, other_paths=alike)


def _inside(graph: Network, block: str) -> tuple[set[str], str]:
    """Return the nodes of a block with an identity skip, and the block's input."""
    inside = {node.path for node in graph if node.path.startswith(f"{block}.")}
    add = graph[f"{block}.add"]
    return inside, next(value for value in add.inputs if value not in inside)


def _twice(graph: Network, block: str) -> Network:
    """Return the network in which a block is followed by a copy with weights of its own."""
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
