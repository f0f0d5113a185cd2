"""Terms of cost formulas: counts per pixel of a value.

A formula gives the cost of one node as terms. Costs of a node, of a block and of a network at one input size, and
totals for any input size, are sums of the same terms.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from deeplab_spec.analysis.sizes import channels_of
from deeplab_spec.graph.folding import values_read
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Pair

UNTILED: Pair = (1, 1)


class Mode(StrEnum):
    """What is counted: an evaluation, or the forward and backward pass of a training step."""

    FORWARD = "forward"
    TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a node's cost.

    Attributes:
        count: Operations, or bytes, per pixel.
        pixels_of: Path of the value whose height times width multiplies the count; None for a count that does not
            depend on the size.
        tile: Height and width are first rounded up to multiples of these.
        once: Whether the count is made once for a network instead of for every image.
    """

    count: int
    pixels_of: str | None = None
    tile: Pair = UNTILED
    once: bool = False


Terms = tuple[Term, ...]


class Surroundings:
    """Facts about a network that the formula of a node may use.

    Args:
        network: The graph.
        channels: Channels of every value, if they do not follow from the graph alone.
    """

    def __init__(self, network: Network, channels: Mapping[str, int] | None = None) -> None:
        self._network = network
        self._channels = channels

    @cached_property
    def channels(self) -> Mapping[str, int]:
        """Channels of every value."""
        return self._channels if self._channels is not None else channels_of(self._network)

    @cached_property
    def learning(self) -> frozenset[str]:
        """The values that depend on a parameter, so that a gradient flows to them."""
        paths: set[str] = set()
        for node in self._network:
            if _has_parameters(node) or not paths.isdisjoint(values_read(node)):
                paths.add(node.path)
        return frozenset(paths)

    @cached_property
    def gradients(self) -> Mapping[str, int]:
        """Number of gradients that arrive at every value: one per use."""
        arriving = dict.fromkeys((node.path for node in self._network), 0)
        for node in self._network:
            for path in values_read(node):
                arriving[path] += 1
        return arriving

    def elements(self, path: str, count: int = 1) -> Term:
        """Return the term of a count for every element of a value."""
        return Term(count * self.channels[path], path)


def merged(terms: Iterable[Term]) -> dict[tuple[str | None, Pair, bool], int]:
    """Add up the counts of terms with the same pixels."""
    sums: dict[tuple[str | None, Pair, bool], int] = {}
    for term in terms:
        key = (term.pixels_of, term.tile, term.once)
        sums[key] = sums.get(key, 0) + term.count
    return sums


def _has_parameters(node: Node) -> bool:
    return isinstance(node.op, Conv2d) or (isinstance(node.op, BatchNorm) and node.op.affine)
