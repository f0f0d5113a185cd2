"""Terms of cost formulas: counts per pixel of a value, and the parameters and running statistics of operators.

A formula gives the cost of one node as terms. Costs of a node, of a block and of a network at one input size, and
totals for any input size, are sums of the same terms.

* *Parameters* are trained: weights, biases, scales and offsets of normalisations.
* *Buffers* are the running mean and variance of a normalisation, two per channel. A framework's batch counter does
  not count.
* *Folded parameters* remain when every normalisation that is the only reader of a convolution is folded into it:
  scales and offsets disappear, and each such convolution has a bias.
* *Dead biases* are biases of convolutions whose only reader is a normalisation: it subtracts its input's mean, so
  they have no effect in training.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from deeplab_spec.analysis.sizes import channels_of
from deeplab_spec.graph.folding import foldable, values_read
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Op, Pair, roles

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

    The channels of every value are given if they do not follow from the graph alone.
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
            if "weight" in roles(node.op) or not paths.isdisjoint(values_read(node)):
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


def conv_weights(op: Conv2d) -> int:
    """Count a convolution's weights, which is also its multiply-adds per output pixel.

    >>> conv_weights(Conv2d(channels_in=728, channels_out=728, kernel=(3, 3), groups=728))
    6552
    """
    return op.kernel[0] * op.kernel[1] * (op.channels_in // op.groups) * op.channels_out


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers that a node, a block or a network stores.

    Attributes:
        parameters: Trained numbers.
        buffers: Running statistics.
        folded: Change of the parameters by folding normalisations into convolutions.
        dead_biases: Biases of convolutions whose only reader is a normalisation.
    """

    parameters: int = 0
    buffers: int = 0
    folded: int = 0
    dead_biases: int = 0

    def __add__(self, other: "Sizes") -> "Sizes":
        return Sizes(
            self.parameters + other.parameters,
            self.buffers + other.buffers,
            self.folded + other.folded,
            self.dead_biases + other.dead_biases,
        )

    @property
    def folded_parameters(self) -> int:
        """Parameters after folding every normalisation that can be folded."""
        return self.parameters + self.folded


NOTHING: Final = Sizes()


def stored(op: Op, *, before_norm: bool = False, after_conv: bool = False) -> Sizes:
    """Count the numbers that one operator stores.

    ``before_norm``: a normalisation is the only reader of the operator; ``after_conv``: it is the only reader of a
    convolution.
    """
    match op:
        case Conv2d():
            bias = op.channels_out if op.bias else 0
            return Sizes(
                parameters=conv_weights(op) + bias,
                folded=op.channels_out - bias if before_norm else 0,
                dead_biases=bias if before_norm else 0,
            )
        case BatchNorm(channels=channels, affine=affine):
            parameters = 2 * channels if affine else 0
            return Sizes(parameters, 2 * channels, -parameters if after_conv else 0)
        case _:
            return NOTHING


def stored_by_node(network: Network) -> dict[str, Sizes]:
    """Count the numbers that every node stores."""
    conv_of = {norm: conv for conv, norm in foldable(network)}
    convs = set(conv_of.values())
    return {
        node.path: stored(node.op, before_norm=node.path in convs, after_conv=node.path in conv_of) for node in network
    }


def total_stored(network: Network) -> Sizes:
    """Count the numbers that a network stores."""
    return sum((sizes for sizes in stored_by_node(network).values() if sizes is not NOTHING), NOTHING)
