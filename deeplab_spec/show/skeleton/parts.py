"""The modules of a network: a tree over the paths of its graph."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Add, Concat, Input, Multiply, Output, Resize

FUNCTIONS = (Add, Multiply, Concat, Resize)
"""Operations without a module: they stand in the forward pass of the part that they are in."""


@dataclass(slots=True, kw_only=True, eq=False)
class Part:
    """One module: a layer, or a group of modules under one name.

    Attributes:
        path: Dotted position; empty for the whole network.
        node: The operation of a layer; None for a group.
        children: The modules of a group, by name.
        functions: The operations without a module that its forward pass computes.
        container: Whether its modules are called by the part around it, one by one.
    """

    path: str
    node: Node | None = None
    children: "dict[str, Part]" = field(default_factory=dict)
    functions: list[Node] = field(default_factory=list)
    container: bool = False

    @property
    def name(self) -> str:
        """The last name of the path."""
        return self.path.rpartition(".")[2]

    @property
    def nodes(self) -> Iterator[Node]:
        """Every operation inside."""
        if self.node:
            yield self.node
        yield from self.functions
        for child in self.children.values():
            yield from child.nodes


class Tree:
    """The parts of a network, and what flows between them."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.root = Part(path="")
        self._order = {node.path: number for number, node in enumerate(network)}
        self._readers = network.readers()
        for node in network:
            if not isinstance(node.op, (*FUNCTIONS, Input, Output)):
                self._add(node)
        for node in network:
            if isinstance(node.op, FUNCTIONS):
                self._around(node).functions.append(node)

    def _add(self, node: Node) -> None:
        part, names = self.root, node.path.split(".")
        for depth, name in enumerate(names, start=1):
            part = part.children.setdefault(name, Part(path=".".join(names[:depth])))
        part.node = node

    def _around(self, node: Node) -> Part:
        """Return the innermost group on the path of a node."""
        part = self.root
        for name in node.path.split(".")[:-1]:
            if name not in part.children or part.children[name].node:
                break
            part = part.children[name]
        return part

    def position(self, node: Node) -> int:
        """Return the position of a node in the order of the graph."""
        return self._order[node.path]

    def inside(self, part: Part) -> list[Node]:
        """Return the operations of a part in the order of the graph."""
        return sorted(part.nodes, key=self.position)

    def inputs(self, part: Part) -> tuple[str, ...]:
        """Return the values that a part reads, in the order in which it does."""
        nodes = self.inside(part)
        own = {node.path for node in nodes}
        return tuple(dict.fromkeys(path for node in nodes for path in node.inputs if path not in own))

    def results(self, part: Part) -> tuple[str, ...]:
        """Return the values of a part that others read."""
        nodes = self.inside(part)
        own = {node.path for node in nodes}
        return tuple(node.path for node in nodes if not own.issuperset(self._readers[node.path]))

    def is_chain(self, part: Part) -> bool:
        """Tell whether the modules of a group run one after another, each on the result of the one before."""
        children = list(part.children.values())
        made = [self.results(child) for child in children]
        read = [self.inputs(child) for child in children]
        flows = read[1:] == made[:-1] and made[-1:] == [self.results(part)] and read[:1] == [self.inputs(part)]
        return flows and not part.functions and all(len(values) == 1 for values in (*made, *read))

    def name(self, path: str) -> str:
        """Return the name of a value: that of its tap, or the last name of its path."""
        taps = {node: tap for tap, node in reversed(self.network.taps)}
        return taps.get(path, path.rpartition(".")[2])


def groups(part: Part) -> Iterable[Part]:
    """Yield every group, the innermost first."""
    for child in part.children.values():
        if not child.node:
            yield from groups(child)
    yield part
