"""Graphs for tests: narrow networks of the specification, chains of operators, and aligned pairs."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache

from deeplab_spec.align import canonical
from deeplab_spec.align.differences import Aspect, differences
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.capture.capture import Capture
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Input, Op, Output, Pair
from deeplab_spec.mutate.mutant import with_node
from deeplab_spec.spec.choices import Choices
from deeplab_spec.spec.network import network
from tests.support.strategies import NARROW

TELLING: Pair = (289, 300)
"""Height and width in which the largest rate, 36 at output stride 8, shows: one odd, one even."""


@lru_cache(maxsize=512)
def narrow_network(choices: Choices, output_stride: int, classes: int = 5) -> Network:
    """Return the graph of choices at a width with small tensors."""
    return network(replace(choices, width=NARROW), output_stride, classes)


@lru_cache(maxsize=512)
def narrow_normal(choices: Choices, output_stride: int, size: Pair = TELLING) -> Shaped:
    """Return the normal form of choices at a narrow width."""
    return normal(narrow_network(choices, output_stride), size)


def normal(graph: Network, size: Pair = TELLING) -> Shaped:
    """Return the normal form of a graph at one input size."""
    return normal_form(shaped(graph, size))


def normal_capture(captured: Capture) -> Shaped:
    """Return the normal form of a captured module, whose only output is named ``logits``."""
    shapes = {path: shape[1:] if len(shape) == 4 else () for path, shape in captured.shapes.items()}
    nodes = (
        replace(node, op=Output(name="logits")) if isinstance(node.op, Output) else node for node in captured.network
    )
    return normal_form(Shaped(network=captured.network.with_nodes(nodes).live(), shapes=shapes))


def between(expected: Network, candidate: Network, size: Pair = TELLING) -> tuple[Aspect, ...]:
    """Return the differences of two graphs at one input size."""
    return differences(side_by_side(expected, candidate, size))


def side_by_side(expected: Network, candidate: Network, size: Pair = TELLING) -> Alignment:
    """Align the normal forms of two graphs at one input size."""
    return align(normal(expected, size), normal(candidate, size))


def chain(*ops: Op, channels: int = 4) -> Network:
    """Return a network of operations in a row, each at ``n<position>``, from ``x`` to ``y``."""
    nodes = [Node(path="x", op=Input(channels=channels))]
    for number, op in enumerate(ops, start=1):
        nodes.append(Node(path=f"n{number}", op=op, inputs=(nodes[-1].path,)))
    nodes.append(Node(path="y", op=Output(name=""), inputs=(nodes[-1].path,)))
    return Network(nodes=tuple(nodes))


def with_op(graph: Network, path: str, **fields: object) -> Network:
    """Return a network in which one operator has other attributes.

    Raises:
        GraphError: If the operator cannot have them.
        TypeError: If the operator has no field of that name.
    """
    op = replace(graph[path].op, **fields)
    return with_node(graph, replace(graph[path], op=op))


def renamed(graph: Network, name: Callable[[str], str]) -> Network:
    """Return a network with other paths."""
    return canonical.renamed(graph, {node.path: name(node.path) for node in graph})


def edited(graph: Network, path: str, edit: Callable[[Node], Iterable[Node]]) -> Network:
    """Return a network with one node replaced by no node, one or several."""
    nodes: list[Node] = []
    for node in graph:
        nodes += edit(node) if node.path == path else [node]
    return graph.with_nodes(nodes)
