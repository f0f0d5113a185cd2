"""Costs of every node and every block of a network, at one input size.

Parameters and the operations of a convention, and for every convention: floating-point operations (those of the
convention ``full``), bytes read and written, bytes kept for the backward pass and bytes alive. One image is
processed at a time. All counts are integers except those of ``tfprof``, which counts halves.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from deeplab_spec.analysis.conventions import MAC, Convention, operator
from deeplab_spec.analysis.flops import flops
from deeplab_spec.analysis.memory import BYTES, bytes_kept, bytes_read, bytes_written, kept_values, live_bytes
from deeplab_spec.analysis.terms import Mode, Sizes, Surroundings, Terms, stored_by_node
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Opaque

Number = int | float
Values = Mapping[str, tuple[int, ...]]
"""Channels, height and width of every value by path; empty for a value that is not a map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of a node, a block or a network for one image.

    Attributes:
        path: Dotted position.
        sizes: Parameters and buffers.
        operations: Operations under the requested convention.
        once: The part of the operations that counts once, not for every image.
        flops: All floating-point operations, under the convention ``full``.
        bytes_read: Bytes of values and parameters that it reads.
        bytes_written: Bytes that it writes.
        bytes_kept: Bytes kept for the backward pass.
        bytes_live: Bytes of values and gradients alive while it runs; the maximum of a block.
        output: Shape of its (last) value; empty if that is not a map.
        operators: Operations by the name of the operator.
        skipped: Number of operators that the convention skips with a warning, by name.
    """

    path: str
    sizes: Sizes
    operations: Number
    once: Number
    flops: int
    bytes_read: int
    bytes_written: int
    bytes_kept: int
    bytes_live: int
    output: tuple[int, ...]
    operators: Mapping[str, Number]
    skipped: Mapping[str, int]

    @property
    def intensity(self) -> float:
        """Floating-point operations per byte read or written; 0 if nothing is moved."""
        moved = self.bytes_read + self.bytes_written
        return self.flops / moved if moved else 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """Return the sum, with the output of the other."""
        return replace(
            other,
            **{name: getattr(self, name) + getattr(other, name) for name in _ADDED},
            path=self.path,
            bytes_live=max(self.bytes_live, other.bytes_live),
            operators=_sum(self.operators, other.operators),
            skipped={path: int(count) for path, count in _sum(self.skipped, other.skipped).items()},
        )


_ADDED: Final = ("sizes", "operations", "once", "flops", "bytes_read", "bytes_written", "bytes_kept")


def _sum(left: Mapping[str, Number], right: Mapping[str, Number]) -> dict[str, Number]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in dict.fromkeys([*left, *right])}


def node_costs(
    network: Network, shapes: Values, convention: Convention = MAC, mode: Mode = Mode.FORWARD
) -> tuple[Cost, ...]:
    """Count every node.

    An opaque operation, and one whose value or input is not a map, counts only its parameters and is skipped.

    Raises:
        SpecError: If the convention cannot count the mode.
    """
    convention.require(mode)
    around = _surroundings(network, shapes)
    sizes = stored_by_node(network)
    bytes_of = {path: BYTES * prod(shape or (0,)) for path, shape in shapes.items()}
    alive = live_bytes(network, bytes_of, around, mode)
    kept = kept_values(network.nodes, around)
    costs = []
    for node in network:
        if _known(node, shapes):
            terms = convention.formula(node, around, mode)
            counted = exact(evaluate(terms, shapes), convention.divisor)
            once = exact(sum(term.count for term in terms if term.once), convention.divisor)
            full = evaluate(flops(node, around, mode), shapes)
            read = evaluate(bytes_read(node, around, mode), shapes)
            written = evaluate(bytes_written(node, around, mode), shapes)
            waiting = evaluate(bytes_kept(node, around, kept), shapes)
            skipped = convention.skipped(node)
        else:
            counted = once = full = read = written = waiting = 0
            skipped = (operator(node),)
        costs.append(
            Cost(
                path=node.path,
                sizes=sizes[node.path],
                operations=counted,
                once=once,
                flops=full,
                bytes_read=read,
                bytes_written=written,
                bytes_kept=waiting,
                bytes_live=alive[node.path],
                output=shapes[node.path],
                operators={operator(node): counted} if counted else {},
                skipped=dict.fromkeys(skipped, 1),
            )
        )
    return tuple(costs)


def total_operations(network: Network, shapes: Values, convention: Convention, mode: Mode = Mode.FORWARD) -> Number:
    """Return the operations of a whole network: the sum of :func:`node_costs`, without what it counts beside them.

    Raises:
        SpecError: If the convention cannot count the mode.
    """
    convention.require(mode)
    around = _surroundings(network, shapes)
    return sum(
        exact(evaluate(convention.formula(node, around, mode), shapes), convention.divisor)
        for node in network
        if _known(node, shapes)
    )


def _surroundings(network: Network, shapes: Values) -> Surroundings:
    return Surroundings(network, {path: shape[0] if shape else 0 for path, shape in shapes.items()})


def _known(node: Node, shapes: Values) -> bool:
    return not isinstance(node.op, Opaque) and all(shapes[path] for path in (node.path, *node.inputs))


def evaluate(terms: Terms, shapes: Values) -> int:
    """Return the sum of terms at known shapes."""
    total = 0
    for term in terms:
        pixels = 1
        if term.pixels_of is not None:
            _, height, width = shapes[term.pixels_of]
            down, across = term.tile
            pixels = -(-height // down) * down * -(-width // across) * across
        total += term.count * pixels
    return total


def exact(count: int, divisor: int) -> Number:
    """Return a count divided by a divisor: an integer if the division is exact.

    >>> exact(10, 2), exact(11, 2)
    (5, 5.5)
    """
    return count // divisor if count % divisor == 0 else count / divisor


def block_of(path: str) -> str:
    """Return the block of a node: a stem unit, a backbone block, a branch of the pyramid or a unit of the head.

    >>> block_of("backbone.middle_flow.block7.sepconv1.depthwise.conv")
    'backbone.middle_flow.block7'
    >>> block_of("backbone.entry_flow.stem.conv1.norm"), block_of("aspp.pool.conv")
    ('backbone.entry_flow.stem.conv1', 'aspp.pool')
    >>> block_of("backbone.block3.depthwise.conv"), block_of("backbone.stem.pool")
    ('backbone.block3', 'backbone.stem.pool')
    """
    steps = path.split(".")
    if steps[0] != "backbone":
        return ".".join(steps[:2])
    if steps[1].startswith("block"):
        return ".".join(steps[:2])
    return ".".join(steps[: 4 if steps[2:3] == ["stem"] else 3])


def block_costs(costs: tuple[Cost, ...]) -> tuple[Cost, ...]:
    """Add up the costs of nodes by block, in the order of the blocks' first nodes."""
    blocks: dict[str, Cost] = {}
    for cost in costs:
        path = block_of(cost.path)
        blocks[path] = blocks[path] + cost if path in blocks else replace(cost, path=path)
    return tuple(blocks.values())


def total_cost(costs: tuple[Cost, ...]) -> Cost:
    """Add up the costs of a whole network."""
    first, *others = costs
    total = replace(first, path="total")
    for cost in others:
        total += cost
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCost:
    """The cost of a block for a batch.

    An ``unknown`` operation has no formula, and counts nothing.
    """

    flops: int = 0
    moved: int = 0
    unknown: int = 0

    def __add__(self, other: "BatchCost") -> "BatchCost":
        """Return the sum."""
        return BatchCost(
            flops=self.flops + other.flops, moved=self.moved + other.moved, unknown=self.unknown + other.unknown
        )


def batch_costs(
    network: Network, shapes: Values, mode: Mode, images: int, blocks: Mapping[str, str]
) -> dict[str, BatchCost]:
    """Return the cost of every block for a batch.

    A term that is proportional to the pixels of a value counts for every image. One that does not depend on the size
    (a kernel that is read, running statistics) counts once for the batch.

    ``blocks`` has the block of every node that counts; ``shapes`` are those of one image.
    """
    around = _surroundings(network, shapes)
    costs: dict[str, BatchCost] = defaultdict(BatchCost)
    for node in network:
        if node.path not in blocks:
            continue
        if not _known(node, shapes):
            costs[blocks[node.path]] += BatchCost(unknown=1)
            continue
        moved = (*bytes_read(node, around, mode), *bytes_written(node, around, mode))
        costs[blocks[node.path]] += BatchCost(
            flops=_of_batch(flops(node, around, mode), shapes, images), moved=_of_batch(moved, shapes, images)
        )
    return dict(costs)


def _of_batch(terms: Terms, shapes: Values, images: int) -> int:
    by_image = evaluate(tuple(term for term in terms if term.pixels_of is not None), shapes)
    return images * by_image + sum(term.count for term in terms if term.pixels_of is None)
