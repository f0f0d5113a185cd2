"""Frees a captured network of the size that it was captured at.

A capture states the size of every resize as a number. What it means is the size of another map:
the image, or the features that are joined. Maps of one size belong to one stride, so the first
value of that size says which.
"""

from dataclasses import replace

from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Pair, Resize


def for_any_size(shaped: Shaped) -> Network:
    """Return the network whose resizes take the size of the first value before them that has it.

    A resize to a size that no value before it has keeps its number.
    """
    first: dict[Pair, str] = {}

    def free(node: Node) -> Node:
        op = node.op
        if isinstance(op, Resize) and op.size is not None and op.size in first and len(node.inputs) == 1:
            node = replace(node, op=replace(op, size=None), inputs=(*node.inputs, first[op.size]))
        size = shaped.map_size(node.path)
        if size is not None:
            first.setdefault(size, node.path)
        return node

    return shaped.network.with_nodes([free(node) for node in shaped.network])
