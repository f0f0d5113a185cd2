"""Costs of evaluation at several scales and of mirrored images: several passes of the same network.

Each side ``d`` of the input becomes ``int((d - 1) * s + 1)`` at scale ``s``, so that sizes that fit align_corners
still do; a mirrored image doubles every pass. Counts that a convention makes once for a network are not repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from deeplab_spec.analysis.conventions import MAC, Convention
from deeplab_spec.analysis.costs import Cost, node_costs
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import NOTHING, Mode
from deeplab_spec.analysis.totals import Evaluator, Totals
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Pair

MULTI_SCALE: Final = tuple(Fraction(quarters, 4) for quarters in range(2, 8))
"""The scales of the paper's multi-scale rows: 0.5, 0.75, 1, 1.25, 1.5, 1.75."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How an image is evaluated.

    Attributes:
        scales: Factors of the image's size, one pass each.
        flip: Whether every pass is repeated with the mirrored image.

    Raises:
        SpecError: If there is no scale, or a scale is not positive.
    """

    scales: tuple[Fraction, ...] = (Fraction(1),)
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise SpecError("scales", "must be positive, and at least one", ",".join(map(str, self.scales)))

    @property
    def images(self) -> int:
        """Images per scale."""
        return 2 if self.flip else 1

    def sizes(self, size: Pair) -> tuple[Pair, ...]:
        """Return the size of the input at every scale.

        >>> Protocol(scales=MULTI_SCALE).sizes((513, 513))[0]
        (257, 257)
        """
        return tuple((scaled(size[0], scale), scaled(size[1], scale)) for scale in self.scales)


SINGLE: Final = Protocol()


def scaled(side: int, scale: Fraction) -> int:
    """Return a side at a scale.

    >>> [scaled(513, scale) for scale in MULTI_SCALE]
    [257, 385, 513, 641, 769, 897]
    """
    return int((side - 1) * scale + 1)


def protocol_costs(
    network: Network, size: Pair, protocol: Protocol = SINGLE, convention: Convention = MAC, mode: Mode = Mode.FORWARD
) -> tuple[Cost, ...]:
    """Count every node over all passes.

    Raises:
        GraphError: If the network does not take a size.
        SpecError: If the convention cannot count the mode.
    """
    passes = protocol.sizes(size)
    every = dict.fromkeys([size, *passes])
    at = {sides: node_costs(network, shapes(network, sides), convention, mode) for sides in every}
    return over_passes(at[size], [at[sides] for sides in passes], protocol.images)


def over_passes(own: Sequence[Cost], passes: Sequence[Sequence[Cost]], images: int) -> tuple[Cost, ...]:
    """Add up the costs of the same nodes over several passes.

    ``own`` are the nodes at the image's own size, which give the output shapes; every pass has several images.
    """
    totals = []
    for node, *costs in zip(own, *passes, strict=True):
        total = times(costs[0], images)
        for cost in costs[1:]:
            total = _with_pass(total, times(cost, images))
        totals.append(replace(total, output=node.output))
    return tuple(totals)


def times(cost: Cost, images: int) -> Cost:
    """Return the cost of several images, one after the other."""
    if images == 1:
        return cost
    return replace(
        cost,
        operations=images * (cost.operations - cost.once) + cost.once,
        flops=images * cost.flops,
        bytes_read=images * cost.bytes_read,
        bytes_written=images * cost.bytes_written,
        bytes_kept=images * cost.bytes_kept,
        operators={name: images * (count - cost.once) + cost.once for name, count in cost.operators.items()},
    )


def _with_pass(total: Cost, further: Cost) -> Cost:
    """Add a pass to the cost of a node; parameters and counts made once stay."""
    both = total + replace(further, sizes=NOTHING)
    return replace(
        both,
        operations=both.operations - further.once,
        once=total.once,
        operators={name: count - further.once for name, count in both.operators.items()},
        skipped=total.skipped,
    )


def protocol_totals(evaluator: Evaluator, size: Pair, protocol: Protocol = SINGLE) -> Totals:
    """Return the totals over all passes, by a compiled evaluator."""
    passes: Sequence[Totals] = [evaluator(*sides) for sides in protocol.sizes(size)]
    once = passes[0].once
    repeated = sum(totals.operations - once for totals in passes)
    return replace(passes[0], operations=protocol.images * repeated + once)
