"""Two networks side by side: how their counts differ, and under which convention they agree.

Counts disagree for two reasons: the networks differ, or what is counted differs. Where two
networks have equal counts under another convention, or once one kind of operator is left out, that
is the explanation; the convention that was asked for is tried first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Final

from deeplab_spec.analysis.conventions import CONVENTIONS, Convention
from deeplab_spec.analysis.costs import Cost, Number, block_costs, total_cost
from deeplab_spec.analysis.terms import Mode

Counted = Callable[[Convention], tuple[Cost, ...]]
"""Counts every node of a network under a convention."""

_LEFT_OUT: Final = 2
"""At most so many kinds of operator are left out in an explanation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One block, or node, of both networks; None where a network has none.

    Attributes:
        path: Dotted position in the specification.
        first: Its cost in the first network.
        second: Its cost in the second.
    """

    path: str
    first: Cost | None
    second: Cost | None

    def parameters(self) -> tuple[int, int]:
        """Return the parameters of both sides."""
        return (
            self.first.sizes.parameters if self.first else 0,
            self.second.sizes.parameters if self.second else 0,
        )

    def operations(self) -> tuple[Number, Number]:
        """Return the operations of both sides."""
        return (self.first.operations if self.first else 0, self.second.operations if self.second else 0)


_ESSENCE: Final = "conv"
"""What is never left out: without its convolutions any network equals any other."""


def side_by_side(first: tuple[Cost, ...], second: tuple[Cost, ...]) -> tuple[Row, ...]:
    """Pair costs by path, the largest difference of operations first, then of parameters."""
    mine = {cost.path: cost for cost in first}
    yours = {cost.path: cost for cost in second}
    rows = [Row(path=path, first=mine.get(path), second=yours.get(path)) for path in dict.fromkeys([*mine, *yours])]
    return tuple(sorted(rows, key=lambda row: (-_distance(row.operations()), -_distance(row.parameters()))))


def _distance(values: tuple[Number, Number]) -> Number:
    return abs(values[0] - values[1])


def operations_explained(first: Counted, second: Counted, asked: Convention, mode: Mode) -> str:
    """Say where the operations of two networks agree: ``equal under fvcore minus batch_norm``.

    Args:
        first: Counts the first network.
        second: Counts the second.
        asked: The convention that the user counts by.
        mode: What is counted; conventions that cannot are not tried.

    Returns:
        The simplest agreement, with whether it holds in every block; empty if there is none.
    """
    able = [asked, *(entry for entry in CONVENTIONS if entry is not asked and mode in entry.modes)]
    costs = {entry.name: (block_costs(first(entry)), block_costs(second(entry))) for entry in able}
    for entry in able:
        mine, yours = costs[entry.name]
        totals = (total_cost(mine), total_cost(yours))
        operators = [name for name in {**totals[0].operators, **totals[1].operators} if name != _ESSENCE]
        for without in chain.from_iterable(combinations(operators, count) for count in range(_LEFT_OUT + 1)):
            if _left(totals[0].operators, without) == _left(totals[1].operators, without):
                text = " minus ".join([f"equal under {entry.name}", *([" and ".join(without)] if without else [])])
                return text if _equal(mine, yours, without) else f"{text}, in total only: blocks differ"
    return ""


def _equal(mine: tuple[Cost, ...], yours: tuple[Cost, ...], without: tuple[str, ...]) -> bool:
    """Tell whether what is left of the counts is equal in every block."""
    left = {cost.path: _left(cost.operators, without) for cost in mine}
    right = {cost.path: _left(cost.operators, without) for cost in yours}
    return all(left.get(path, 0) == right.get(path, 0) for path in {*left, *right})


def _left(operators: Mapping[str, Number], without: tuple[str, ...]) -> Number:
    return sum(count for name, count in operators.items() if name not in without)


def parameters_explained(first: Cost, second: Cost) -> str:
    """Say which parameters of two networks agree; empty if none do.

    Args:
        first: The total cost of the first network.
        second: The total cost of the second.
    """
    ways: dict[str, Callable[[Cost], int]] = {
        "parameters": lambda cost: cost.sizes.parameters,
        "parameters without dead biases": lambda cost: cost.sizes.parameters - cost.sizes.dead_biases,
        "parameters with normalisations folded": lambda cost: cost.sizes.folded_parameters,
        "parameters with running statistics": lambda cost: cost.sizes.parameters + cost.sizes.buffers,
    }
    for name, way in ways.items():
        if way(first) == way(second):
            return f"equal in {name}"
    for name, way in ways.items():
        for other, another in ways.items():
            if way(first) == another(second):
                return f"the {name} of the first are the {other} of the second"
    return ""
