"""A network with the shapes of its values at one input size, and back to a network for any size."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Pair, Resize

Size = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """A network together with the shape of every value at one input size.

    Attributes:
        network: The graph.
        shapes: Channels, height and width by path; empty for a value that is not a batch of maps.
        likes: The path of the node whose size a resize takes, by the path of the resize; a resize with a stated size
            has no entry.
        times: How often a value is computed, by path, if more than once.
    """

    network: Network
    shapes: Mapping[str, Size]
    likes: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, int] = field(default_factory=dict)

    def map_size(self, path: str) -> Pair | None:
        """Return the height and width of a value; None if it is not a batch of maps."""
        shape = self.shapes[path]
        return (shape[1], shape[2]) if len(shape) == 3 else None  # noqa: PLR2004 - channels, height, width

    def channels(self, path: str) -> int:
        """Return the channels of a value; 0 if it is not a batch of maps."""
        shape = self.shapes[path]
        return shape[0] if shape else 0

    def with_network(self, network: Network) -> "Shaped":
        """Return the same shapes with a rewritten network."""
        return replace(self, network=network)


def shaped(network: Network, sizes: Pair | Mapping[str, Pair]) -> Shaped:
    """Return a network whose shapes follow from the sizes of its inputs.

    Raises:
        GraphError: If the shapes do not fit.
    """
    return Shaped(network=network, shapes=shapes(network, sizes))


def for_any_size(shaped: Shaped) -> Network:
    """Return the network for any input size: every resize takes its size from the first earlier value of that size.

    A captured network states the size of every resize as a number. Values of one size belong to one stride, so the
    first value of that size stands for the stride. A resize to a size that no earlier value has keeps its number.
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
