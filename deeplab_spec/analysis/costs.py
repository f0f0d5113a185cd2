"""Parameters and multiply-adds in closed form: one formula per operator.

Conventions:

* *Parameters* are what a training step changes: weights, biases, scales and offsets of
  normalisations.
* *Buffers* are the running mean and variance of a normalisation, two per channel. A
  framework's counter of batches is none of them.
* *Folded parameters* are what is left when every normalisation that alone reads a convolution
  is folded into it: scales and offsets go, and each such convolution has a bias.
* *Dead biases* are biases of convolutions that only normalisations read: a normalisation
  subtracts its input's mean, so they change nothing in training.
* Under the convention ``mac``, one multiplication with its addition in a convolution counts as
  one, and padding counts as if it were data. A bias, a normalisation, an activation, a sum and
  a resize count nothing.

A formula says what one operator costs per pixel of some value. Costs of a node and totals of a
network are sums of the same formulas; a further convention is a further entry of ``FORMULAS``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from deeplab_spec.analysis.sizes import Shape
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Op


class Convention(StrEnum):
    """What counts as one operation."""

    MAC = "mac"


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a node's cost: a count for every pixel of a value.

    Attributes:
        count: Operations per pixel.
        pixels_of: Path of the value whose height times width the count is multiplied with.
    """

    count: int
    pixels_of: str


def multiply_adds(node: Node) -> tuple[Term, ...]:
    """Return the terms of a node under the convention ``mac``."""
    if not isinstance(node.op, Conv2d):
        return ()
    return (Term(conv_weights(node.op), node.path),)


FORMULAS: Final[Mapping[Convention, Callable[[Node], tuple[Term, ...]]]] = {Convention.MAC: multiply_adds}


def conv_weights(op: Conv2d) -> int:
    """Count a convolution's weights, which is also its multiply-adds per output pixel.

    >>> conv_weights(Conv2d(channels_in=728, channels_out=728, kernel=(3, 3), groups=728))
    6552
    """
    return op.kernel[0] * op.kernel[1] * (op.channels_in // op.groups) * op.channels_out


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a node, a block or a network stores.

    Attributes:
        parameters: Trained numbers.
        buffers: Running statistics.
        folded: Change of the parameters when normalisations are folded into convolutions.
        dead_biases: Biases that only a normalisation reads.
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
        """Return the sizes of so many of these; a negative number takes them away."""
        return Sizes(count * self.parameters, count * self.buffers, count * self.folded, count * self.dead_biases)

    @property
    def folded_parameters(self) -> int:
        """Parameters after every normalisation that can be folded into a convolution was."""
        return self.parameters + self.folded


NOTHING: Final = Sizes()


def stored(op: Op, *, before_norm: bool = False, after_conv: bool = False) -> Sizes:
    """Count what one operator stores.

    Args:
        op: The operator.
        before_norm: Whether normalisations alone read the operator's value.
        after_conv: Whether it is the only reader of a convolution.
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
    """Count what every node stores."""
    folds = _folds(network)
    convs = {network[path].inputs[0] for path in folds}
    return {
        node.path: stored(node.op, before_norm=node.path in convs, after_conv=node.path in folds) for node in network
    }


def total_stored(network: Network) -> Sizes:
    """Count what a whole network stores."""
    sizes = [entry for entry in stored_by_node(network).values() if entry is not NOTHING]
    return Sizes(
        parameters=sum(entry.parameters for entry in sizes),
        buffers=sum(entry.buffers for entry in sizes),
        folded=sum(entry.folded for entry in sizes),
        dead_biases=sum(entry.dead_biases for entry in sizes),
    )


def _folds(network: Network) -> set[str]:
    """Return the normalisations that alone read a convolution."""
    read_once: dict[str, bool] = {}
    for node in network:
        for path in node.inputs:
            read_once[path] = path not in read_once
    return {
        node.path
        for node in network
        if isinstance(node.op, BatchNorm)
        and read_once[node.inputs[0]]
        and isinstance(network[node.inputs[0]].op, Conv2d)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a node, a block or a network costs.

    Attributes:
        path: Dotted position.
        sizes: What it stores.
        operations: What it computes for one image, under the convention asked for.
        output: Shape of its (last) value.
    """

    path: str
    sizes: Sizes
    operations: int
    output: Shape


def node_costs(
    network: Network, shapes: Mapping[str, Shape], convention: Convention = Convention.MAC
) -> tuple[Cost, ...]:
    """Count every node.

    Args:
        network: The graph.
        shapes: Shape of every value, by path.
        convention: What counts as one operation.
    """
    sizes = stored_by_node(network)
    formula = FORMULAS[convention]
    costs = []
    for node in network:
        operations = sum(term.count * _pixels(shapes[term.pixels_of]) for term in formula(node))
        costs.append(Cost(path=node.path, sizes=sizes[node.path], operations=operations, output=shapes[node.path]))
    return tuple(costs)


def _pixels(shape: Shape) -> int:
    return shape[1] * shape[2]


def block_of(path: str) -> str:
    """Return the block that a node belongs to: a stem unit, a backbone block, a branch, a head unit.

    >>> block_of("backbone.middle_flow.block7.sepconv1.depthwise.conv")
    'backbone.middle_flow.block7'
    >>> block_of("backbone.entry_flow.stem.conv1.norm"), block_of("aspp.pool.conv")
    ('backbone.entry_flow.stem.conv1', 'aspp.pool')
    """
    steps = path.split(".")
    if steps[0] != "backbone":
        return ".".join(steps[:2])
    return ".".join(steps[: 4 if steps[2:3] == ["stem"] else 3])


def block_costs(costs: tuple[Cost, ...]) -> tuple[Cost, ...]:
    """Add up the costs of nodes by block, in the order of the blocks' first nodes."""
    blocks: dict[str, Cost] = {}
    for cost in costs:
        path = block_of(cost.path)
        before = blocks.get(path)
        blocks[path] = replace(
            cost,
            path=path,
            sizes=before.sizes + cost.sizes if before else cost.sizes,
            operations=before.operations + cost.operations if before else cost.operations,
        )
    return tuple(blocks.values())


def classifier_per_class(op: Op) -> Conv2d:
    """Return the part of a classifier that one class costs.

    Raises:
        GraphError: If it is not a convolution without groups, whose cost is not linear in the classes.
    """
    if not isinstance(op, Conv2d) or op.groups > 1:
        raise GraphError("classifier", "must be a convolution without groups", op)
    return replace(op, channels_out=1)
