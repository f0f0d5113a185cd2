"""Small edits of a graph: one node changed, taken out, put in, or given other values to read.

Paths keep their meaning, so that what was edited can be found again. Nothing here asks whether a result
is a sensible network; a graph that is none is refused by :class:`~deeplab_spec.graph.network.Network`.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Op


def with_op(graph: Network, path: str, **fields: object) -> Network:
    """Return a network in which one operation has other attributes.

    Args:
        graph: The network.
        path: The node.
        fields: The attributes, by the name of their field.

    Raises:
        GraphError: If the operation cannot have them.
        TypeError: If it has no field of that name.
    """

    def change(node: Node) -> list[Node]:
        op = replace(node.op, **fields)  # type: ignore[arg-type]  # the record refuses what is no field of it
        return [replace(node, op=op)]

    return edited(graph, path, change)


def with_inputs(graph: Network, path: str, *inputs: str) -> Network:
    """Return a network in which one node reads other values.

    Raises:
        GraphError: If one of them does not stand before it.
    """
    return edited(graph, path, lambda node: [replace(node, inputs=inputs)])


def without(graph: Network, paths: Collection[str]) -> Network:
    """Return a network without nodes of one input; what read them reads their input."""
    instead: dict[str, str] = {}
    nodes = []
    for node in graph:
        inputs = tuple(instead.get(path, path) for path in node.inputs)
        if node.path in paths:
            instead[node.path] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    taps = tuple((name, instead.get(path, path)) for name, path in graph.taps)
    return Network(nodes=tuple(nodes), taps=taps)


def inserted(graph: Network, after: str, op: Op | None = None, path: str = "inserted") -> Network:
    """Return a network with one more operation on a value, which everything reads instead.

    Args:
        graph: The network.
        after: The node whose value it reads.
        op: The operation; None for a ReLU.
        path: Its path.
    """
    nodes: list[Node] = []
    for node in graph:
        inputs = tuple(path if value == after else value for value in node.inputs)
        nodes.append(replace(node, inputs=inputs))
        if node.path == after:
            nodes.append(Node(path=path, op=op or Activation(), inputs=(after,)))
    return Network(nodes=tuple(nodes), taps=graph.taps)


def renamed(graph: Network, name: Callable[[str], str]) -> Network:
    """Return a network with other paths."""
    nodes = (replace(node, path=name(node.path), inputs=tuple(map(name, node.inputs))) for node in graph)
    return Network(nodes=tuple(nodes), taps=tuple((tap, name(path)) for tap, path in graph.taps))


def edited(graph: Network, path: str, edit: Callable[[Node], Iterable[Node]]) -> Network:
    """Return a network with one node replaced by none, one or several."""
    nodes: list[Node] = []
    for node in graph:
        nodes += edit(node) if node.path == path else [node]
    return graph.with_nodes(nodes)
