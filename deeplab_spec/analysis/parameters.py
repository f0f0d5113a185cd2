"""Parameters and running statistics of a network, from its operators alone.

* *Parameters* are trained: weights, biases, scales and offsets of normalisations.
* *Buffers* are the running mean and variance of a normalisation, two per channel. A framework's batch counter does
  not count.
* *Folded parameters* remain when every normalisation that is the only reader of a convolution is folded into it:
  scales and offsets disappear, and each such convolution has a bias.
* *Dead biases* are biases of convolutions whose only reader is a normalisation: it subtracts its input's mean, so
  they have no effect in training.
"""

from dataclasses import dataclass
from typing import Final

from deeplab_spec.graph.folding import foldable
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Op


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

    def times(self, count: int) -> "Sizes":
        """Return a multiple of the sizes; a negative one subtracts them."""
        return Sizes(count * self.parameters, count * self.buffers, count * self.folded, count * self.dead_biases)

    @property
    def folded_parameters(self) -> int:
        """Parameters after folding every normalisation that can be folded."""
        return self.parameters + self.folded


NOTHING: Final = Sizes()


def stored(op: Op, *, before_norm: bool = False, after_conv: bool = False) -> Sizes:
    """Count the numbers that one operator stores.

    Args:
        op: The operator.
        before_norm: Whether a normalisation is the only reader of the operator.
        after_conv: Whether the operator is the only reader of a convolution.
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
