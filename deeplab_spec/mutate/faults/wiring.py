"""Wrong wiring: a tap, a skip or the decoder reads another value than it must."""

from collections.abc import Iterator, Mapping

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Add, Concat, Conv2d, Resize
from deeplab_spec.mutate.faults.channel_counts import reading
from deeplab_spec.mutate.faults.graph_edits import with_inputs
from deeplab_spec.mutate.mutant import Mutant

_TAP_READER = "decoder.low_level.conv"
_ENTRY = "backbone.entry_flow."


def of_tap(graph: Network, maps: Mapping[str, tuple[int, ...]]) -> Iterator[Mutant]:
    """Return the mutants whose decoder reads another value of the entry flow."""
    channels = {path: shape[0] for path, shape in maps.items()}
    read = graph[_TAP_READER].inputs[0]
    for node in graph:
        if node.path.startswith(_ENTRY) and node.path != read and not node.path.endswith(".conv"):
            network = reading(graph, _TAP_READER, node.path, channels=channels)
            if network is not None:
                detail = node.path.removeprefix(_ENTRY)
                yield Mutant(kind="tap at", detail=detail, path=_TAP_READER, attribute="inputs", network=network)


def of_encoder(graph: Network, maps: Mapping[str, tuple[int, ...]]) -> Iterator[Mutant]:
    """Return the mutants whose decoder or projection reads what stands before the pyramid, or past a part of it."""
    channels = {path: shape[0] for path, shape in maps.items()}
    features = graph["aspp.conv1x1.conv"].inputs[0]
    readers = [node for node in graph if isinstance(node.op, Resize) and node.path == "decoder.resize"]
    for node in (*readers, graph["aspp.projection.conv"]):
        inputs = (features, *node.inputs[1:])
        network = reading(graph, node.path, *inputs, channels=channels)
        if network is not None:
            kind = "features of the backbone instead"
            yield Mutant(kind=kind, path=node.path, attribute="inputs", network=network.live())


def of_reader(graph: Network, node: Node, maps: Mapping[str, tuple[int, ...]]) -> Iterator[Mutant]:
    """Return the mutants in which one node reads past a sum or a ReLU that others read too."""
    readers = graph.readers()
    for value in dict.fromkeys(node.inputs):
        before = graph[value]
        if isinstance(node.op, Concat) or len(readers[value]) < 2:  # noqa: PLR2004 - itself and another
            continue
        for number, past in enumerate(_past(before), start=1):
            if maps[past] == maps[value]:
                inputs = tuple(past if path == value else path for path in node.inputs)
                detail = f"{value} on its input {number}"
                network = with_inputs(graph, node.path, *inputs).live()
                yield Mutant(
                    kind="reads past",
                    detail=detail,
                    path=node.path,
                    attribute="inputs",
                    network=network,
                    places=(value,),
                )


def _past(node: Node) -> tuple[str, ...]:
    return node.inputs if isinstance(node.op, Add | Activation) else ()


def of_skip(graph: Network, node: Node, maps: Mapping[str, tuple[int, ...]]) -> Iterator[Mutant]:
    """Return the mutants of the skip that a sum adds: it reads a value of the main path instead of the block's input.

    The first is what an activation that works in place does to a skip that is read after it.
    """
    if not isinstance(node.op, Add):
        return
    block = node.path.removesuffix(".add")
    conv = f"{block}.skip.conv"
    reader, read = (conv, graph[conv].inputs[0]) if conv in graph else (node.path, node.inputs[1])
    main = [inner for inner in graph if inner.path.startswith(f"{block}.sepconv") and not isinstance(inner.op, Conv2d)]
    for inner in main:
        if maps[inner.path] == maps[read] and inner.path != node.inputs[0]:
            inputs = (inner.path,) if reader == conv else (node.inputs[0], inner.path)
            network = _ordered(graph, reader, inner.path, inputs)
            detail = inner.path.removeprefix(f"{block}.")
            yield Mutant(kind="skip reads", detail=detail, path=reader, attribute="inputs", network=network)


def _ordered(graph: Network, reader: str, value: str, inputs: tuple[str, ...]) -> Network:
    """Return the network with the reader after the value, wherever it stood."""
    nodes = list(graph)
    names = [node.path for node in nodes]
    if names.index(reader) < names.index(value):
        moved = nodes.pop(names.index(reader))
        nodes.insert(names.index(value), moved)
    return with_inputs(graph.with_nodes(nodes), reader, *inputs)
