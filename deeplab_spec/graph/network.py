"""A network: an ordered, frozen graph of nodes with dotted paths.

Everything that describes an architecture is a :class:`Network`: the specification, a
captured implementation, a mutant. Nodes stand in an order in which they can be executed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from html import escape

from deeplab_spec.errors import GraphError
from deeplab_spec.graph.ops import Input, Op, Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a fact is published, or where a captured node was found.

    Attributes:
        work: The publication, e.g. ``arXiv:1802.02611``.
        place: Where in it, e.g. ``section 3.2``.
    """

    work: str
    place: str

    def __str__(self) -> str:
        return f"{self.work}, {self.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operation of a network.

    Attributes:
        path: Dotted position; unique in the network.
        op: What it computes.
        inputs: Paths of its input nodes, in order.
        source: Where the node is published or was captured.
    """

    path: str
    op: Op
    inputs: tuple[str, ...] = ()
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Network:
    """An executable order of nodes, with public names for some values.

    Attributes:
        nodes: The operations; the inputs of each stand before it.
        taps: Public names of values: pairs of a name and a node's path.

    Raises:
        GraphError: If a path occurs twice, an input does not stand before its reader, a tap
            names no node, or there is no input or no output.
    """

    nodes: tuple[Node, ...]
    taps: tuple[tuple[str, str], ...] = ()
    _by_path: dict[str, Node] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_path: dict[str, Node] = {}
        for node in self.nodes:
            if node.path in by_path:
                raise GraphError(node.path, "a path must be unique", "a second node")
            for path in node.inputs:
                if path not in by_path:
                    raise GraphError(node.path, "an input must stand before its reader", path)
            by_path[node.path] = node
        for name, path in self.taps:
            if path not in by_path:
                raise GraphError(name, "a tap must name a node", path)
        for required in (Input, Output):
            if not any(isinstance(node.op, required) for node in self.nodes):
                raise GraphError("network", f"there must be an {required.__name__}", "none")
        object.__setattr__(self, "_by_path", by_path)

    def __getitem__(self, path: str) -> Node:
        """Return the node at a path; KeyError if there is none."""
        return self._by_path[path]

    def __contains__(self, path: object) -> bool:
        return path in self._by_path

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self.taps)
        return f"Network({len(self.nodes)} nodes{f', taps {names}' if names else ''})"

    def _repr_html_(self) -> str:
        """Return a table of the nodes for a notebook."""
        cells = ((node.path, repr(node.op), ", ".join(node.inputs)) for node in self.nodes)
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        return f"<table><tr><th>path</th><th>operator</th><th>inputs</th></tr>{rows}</table>"

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes through which tensors enter, in order."""
        return tuple(node for node in self.nodes if isinstance(node.op, Input))

    @property
    def outputs(self) -> tuple[Node, ...]:
        """The nodes through which tensors leave, in order."""
        return tuple(node for node in self.nodes if isinstance(node.op, Output))

    @property
    def results(self) -> dict[str, str]:
        """The paths of the outputs by their public names, in order."""
        return {node.op.name: node.path for node in self.nodes if isinstance(node.op, Output)}

    def tap(self, name: str) -> str:
        """Return the path of the value with a public name.

        Raises:
            GraphError: If the network has no such tap.
        """
        taps = dict(self.taps)
        if name not in taps:
            raise GraphError(name, f"must be a tap ({', '.join(taps)})", name)
        return taps[name]

    def readers(self) -> dict[str, tuple[str, ...]]:
        """Return the paths of the nodes that take each node as input, in order."""
        readers: dict[str, list[str]] = {node.path: [] for node in self.nodes}
        for node in self.nodes:
            for path in node.inputs:
                readers[path].append(node.path)
        return {path: tuple(paths) for path, paths in readers.items()}

    def only(self, paths: Iterable[str]) -> "Network":
        """Return the network of some nodes; their inputs must be among them."""
        keep = set(paths)
        return Network(
            nodes=tuple(node for node in self.nodes if node.path in keep),
            taps=tuple((name, path) for name, path in self.taps if path in keep),
        )

    def live(self) -> "Network":
        """Return the network without nodes that no output depends on."""
        return self.only(self.upstream(node.path for node in (*self.inputs, *self.outputs)))

    def upstream(self, paths: Iterable[str]) -> set[str]:
        """Return the paths of some nodes and of all that they depend on."""
        found = set(paths)
        for node in reversed(self.nodes):
            if node.path in found:
                found.update(node.inputs)
        return found

    def without(self, others: Mapping[str, str]) -> "Network":
        """Return the network without some nodes; their readers and taps take another, earlier value of each instead."""
        instead: dict[str, str] = {}
        nodes = []
        for node in self.nodes:
            if node.path in others:
                instead[node.path] = instead.get(others[node.path], others[node.path])
            else:
                inputs = tuple(instead.get(path, path) for path in node.inputs)
                nodes.append(node if inputs == node.inputs else replace(node, inputs=inputs))
        return Network(nodes=tuple(nodes), taps=tuple((name, instead.get(path, path)) for name, path in self.taps))

    def with_nodes(self, nodes: Iterable[Node]) -> "Network":
        """Return the network with other nodes and the same taps."""
        return replace(self, nodes=tuple(nodes))
