"""Cuts a part out of a captured network: some of its values become inputs, and others results."""

from collections.abc import Mapping, Sequence

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.equivalences.graph_builder import GraphBuilder
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Input, Output


def cut(captured: Capture, inputs: Sequence[str], outputs: Mapping[str, str]) -> Capture:
    """Return the nodes between some values and others.

    Args:
        captured: The whole network.
        inputs: Paths of the values that become inputs, in order; they keep their paths.
        outputs: Paths of the values that become results, by their names.
    """
    built = GraphBuilder(captured)
    for path in inputs:
        built.nodes[path] = Node(path=path, op=Input(channels=captured.shapes[path][1]))
        built.shapes[path] = captured.shapes[path]
    needed = set(outputs.values()) - set(inputs)
    for node in reversed(captured.network.nodes):
        if node.path in needed:
            needed.update(set(node.inputs) - set(inputs))
    for node in captured.network:
        if node.path in needed:
            built.keep(node)
    for name, path in outputs.items():
        end = f"output.{name}"
        built.nodes[end] = Node(path=end, op=Output(name=name), inputs=(path,))
        built.shapes[end] = captured.shapes[path]
    return built.build()
