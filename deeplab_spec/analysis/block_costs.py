"""What every block of a network costs for a batch: the sums of the specification's own formulas.

A term that goes by the pixels of a value is counted for every image. One that no size changes (a
kernel that is read, statistics that are kept) is counted once for the batch.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from deeplab_spec.analysis.costs import Values, evaluate
from deeplab_spec.analysis.flops import flops
from deeplab_spec.analysis.terms import Mode, Surroundings, Terms
from deeplab_spec.analysis.traffic import bytes_read, bytes_written
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Opaque


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCost:
    """What a block costs for a batch.

    Attributes:
        flops: Floating-point operations.
        moved: Bytes read and written.
        unknown: Operations that no formula describes, and that count nothing.
    """

    flops: int = 0
    moved: int = 0
    unknown: int = 0

    def __add__(self, other: "BatchCost") -> "BatchCost":
        """Return the cost of both."""
        return BatchCost(
            flops=self.flops + other.flops, moved=self.moved + other.moved, unknown=self.unknown + other.unknown
        )


def batch_costs(
    network: Network, shapes: Values, mode: Mode, images: int, blocks: Mapping[str, str]
) -> dict[str, BatchCost]:
    """Return what every block costs.

    Args:
        network: The graph.
        shapes: Shape of every value for one image, by path.
        mode: Whether gradients are computed too.
        images: Images in the batch.
        blocks: Block of every node that counts, by path.
    """
    around = Surroundings(network, {path: shape[0] if shape else 0 for path, shape in shapes.items()})
    costs: dict[str, BatchCost] = defaultdict(BatchCost)
    for node in network:
        if node.path not in blocks:
            continue
        if isinstance(node.op, Opaque) or not all(shapes[path] for path in (node.path, *node.inputs)):
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
