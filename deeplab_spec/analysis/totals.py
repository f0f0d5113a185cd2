"""Totals of a network for any input size and number of classes, in microseconds.

A network is compiled once: the sides of its values are expressions of the input's sides (a handful of distinct ones),
and the terms of a convention become one coefficient per expression. An evaluation then computes the expressions and one
short sum. The formulas are those of :mod:`deeplab_spec.analysis.costs`, for any convention and mode.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from deeplab_spec.analysis.conventions import MAC, Convention
from deeplab_spec.analysis.costs import Number, exact
from deeplab_spec.analysis.sides import Sides
from deeplab_spec.analysis.terms import Mode, Sizes, Surroundings, merged, total_stored
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Conv2d, Pair
from deeplab_spec.spec.network import CLASSIFIER


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The costs of a whole network.

    Attributes:
        sizes: Parameters and buffers.
        operations: Operations for one image, under the evaluator's convention.
        once: The part of the operations that counts once, not for every image.
    """

    sizes: Sizes
    operations: Number
    once: Number = 0


class Evaluator:
    """The totals of one network, ready for any input size and number of classes.

    >>> from deeplab_spec.spec.network import network
    >>> from deeplab_spec.spec.variants import NOTEBOOK
    >>> evaluator = Evaluator(network(NOTEBOOK.choices))
    >>> evaluator(513, 513).operations
    65972773424
    >>> evaluator(513, 513, classes=19).sizes.parameters
    53554331
    """

    def __init__(self, network: Network, convention: Convention = MAC, mode: Mode = Mode.FORWARD) -> None:
        """Compile a network.

        Raises:
            GraphError: If an operation is opaque, so that sizes after it are unknown.
            SpecError: If the convention cannot count the mode.
        """
        convention.require(mode)
        self._network = network
        self._convention = convention
        self._mode = mode
        self._sides = Sides(network)
        self._terms, self._once = self._counted(network)
        self._sizes = total_stored(network)
        classifier = network[CLASSIFIER].op if CLASSIFIER in network else None
        self._classes = classifier.channels_out if isinstance(classifier, Conv2d) else 0

    def _counted(self, network: Network) -> tuple[dict[Pair, int], int]:
        """Return the counts by the expressions of their height and width, and the sum of the counts made once."""
        around = Surroundings(network)
        formula, mode = self._convention.formula, self._mode
        sums: dict[Pair, int] = {}
        once = 0
        for (path, tile, single), count in merged(
            term for node in network for term in formula(node, around, mode)
        ).items():
            if single:
                once += count
            else:
                place = self._sides.place(path, tile)
                sums[place] = sums.get(place, 0) + count
        return sums, once

    @cached_property
    def _per_class(self) -> tuple[dict[Pair, int], int, Sizes]:
        """The cost of one more class: every formula is linear in the channels of the logits."""
        more = with_classes(self._network, self._classes + 1)
        terms, once = self._counted(more)
        added = {place: count - self._terms.get(place, 0) for place, count in terms.items()}
        sizes = total_stored(more) + self._sizes.times(-1)
        return {place: count for place, count in added.items() if count}, once - self._once, sizes

    def __call__(self, height: int, width: int, classes: int | None = None) -> Totals:
        """Return the totals for one image.

        Args:
            height: Input height, in pixels.
            width: Input width, in pixels.
            classes: Channels of the logits; by default the network's own.

        Raises:
            GraphError: If a value would have an empty side, operands do not fit, the number of classes is below 1, or
                the network has no classifier whose classes could change.
        """
        return self._totals(self._sides.of_image((height, width)), classes)

    def at(self, sizes: Mapping[str, Pair], classes: int | None = None) -> Totals:
        """Return the totals for one image per input; the sizes are given by input path."""
        return self._totals(self._sides.at(sizes), classes)

    def _totals(self, sides: tuple[list[int], list[int]], classes: int | None) -> Totals:
        heights, widths = sides
        counted = self._once + _sum(self._terms, heights, widths)
        once, stored = self._once, self._sizes
        if classes is not None and classes != self._classes:
            if not self._classes:
                raise GraphError(CLASSIFIER, "must be in a network whose classes change", classes)
            if classes < 1:
                raise GraphError("classes", "must be 1 or more", classes)
            more = classes - self._classes
            terms, once_more, stored_more = self._per_class
            counted += more * (once_more + _sum(terms, heights, widths))
            once += more * once_more
            stored += stored_more.times(more)
        parts = self._convention.divisor
        return Totals(sizes=stored, operations=exact(counted, parts), once=exact(once, parts))


def _sum(terms: Mapping[Pair, int], heights: list[int], widths: list[int]) -> int:
    return sum(count * heights[row] * widths[column] for (row, column), count in terms.items())


def with_classes(network: Network, classes: int) -> Network:
    """Return the network with another number of classes.

    Raises:
        GraphError: If the classifier is not a convolution without groups, so that a class has no cost of its own.
    """
    op = network[CLASSIFIER].op
    if not isinstance(op, Conv2d) or op.groups > 1:
        raise GraphError("classifier", "must be a convolution without groups", op)
    changed = replace(network[CLASSIFIER], op=replace(op, channels_out=classes))
    return network.with_nodes(changed if node.path == CLASSIFIER else node for node in network)
