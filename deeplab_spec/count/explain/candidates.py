"""The candidates: every way to count a network, with the count as a function of its classes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from deeplab_spec.analysis.protocol import Protocol
from deeplab_spec.count.explain.axes import FORMS, UNITS, Axes, Counting, Unit, View, views
from deeplab_spec.count.explain.figures import Quantity
from deeplab_spec.count.explain.tally import Linear, Tally
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.ops import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One network at one output stride.

    Attributes:
        name: The network, with what differs from the published one.
        output_stride: Its output stride.
        tally: Its costs.
        takes: Whether it takes a size.
        unusual: Its rank.
    """

    name: str
    output_stride: int
    tally: Tally
    takes: Callable[[Pair], bool] = lambda _: True
    unusual: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to count: everything but the network, its output stride and its classes.

    Attributes:
        quantity: Parameters or operations.
        view: The part of the network.
        form: What is counted of the stored numbers; empty for operations.
        unit: What the printed unit stands for.
        counting: How operations are counted; None for stored numbers.
        size: Height and width of the image; None for stored numbers.
        protocol: Scales and mirrored images; None for stored numbers.
        unusual: Its rank.
    """

    quantity: Quantity
    view: View
    form: str = ""
    unit: Unit = UNITS[0]
    counting: Counting | None = None
    size: Pair | None = None
    protocol: Protocol | None = None
    unusual: int


def stored(case: Case) -> Iterator[tuple[Way, Linear]]:
    """Yield every way to count what a network stores, with the count; without normalisations there are fewer."""
    tally = case.tally
    for view, unit in product(views(tally.groups, Quantity.STORED), UNITS):
        seen: set[Linear] = set()
        for form, rank in FORMS.items():
            count = tally.stored(view.groups, form)
            if count not in seen:
                seen.add(count)
                unusual = rank + view.unusual + 2 * (unit.each > 1)
                way = Way(quantity=Quantity.STORED, view=view, form=form, unit=unit, unusual=unusual)
                yield way, count.times(unit.each)


def computed(case: Case, axes: Axes) -> Iterator[tuple[int, Iterator[tuple[Way, Linear]]]]:
    """Yield for every size and protocol the magnitude of all counts of operations, and every way with its count."""
    for (size, rank), (protocol, rank_of_protocol) in product(axes.sizes.items(), axes.protocols.items()):
        if not case.takes(size):
            continue
        try:
            rough = case.tally.rough(size, protocol)
        except GraphError:
            continue  # a value would be empty, or operands do not fit
        yield rough, _computed(case, axes, size, protocol, rank + rank_of_protocol)


def _computed(case: Case, axes: Axes, size: Pair, protocol: Protocol, unusual: int) -> Iterator[tuple[Way, Linear]]:
    for row, count in zip(case.tally.rows, case.tally.operations(size, protocol), strict=True):
        for counting in axes.by_convention[row.convention.name]:
            way = Way(
                quantity=Quantity.OPERATIONS,
                view=row.view,
                counting=counting,
                size=size,
                protocol=protocol,
                unusual=unusual + counting.unusual + row.view.unusual,
            )
            yield way, count.times(counting.factor)
