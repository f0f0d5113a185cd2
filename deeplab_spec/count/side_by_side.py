"""Compares the counts of two networks, and finds the convention under which they agree: ``count --against``.

Counts differ for two reasons: the networks differ, or what is counted differs. If two networks have
equal counts under another convention, or without one or two kinds of operator, that is the explanation.
The requested convention is tried first.
"""

from collections.abc import Callable, Mapping
from itertools import chain, combinations
from typing import Final

from deeplab_spec.analysis.conventions import CONVENTIONS, Convention
from deeplab_spec.analysis.costs import Cost, Number, block_costs, total_cost
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.result import ExitCode, Result
from deeplab_spec.views.document import Document, Model

Counter = Callable[[Convention], tuple[Cost, ...]]
"""Counts every node of a network under a convention."""

_MOST_EXCLUDED: Final = 2
"""An explanation excludes at most this many kinds of operator."""
_ALWAYS_COUNTED: Final = "conv"
"""Never excluded: without convolutions any two networks are equal."""


class DifferenceModel(Model):
    """The costs of one block, node or network on both sides, the first network first."""

    path: str
    parameters: tuple[int, int]
    macs: tuple[Number, Number]

    @property
    def equal(self) -> bool:
        """Whether both sides have the same parameters and the same operations."""
        return self.parameters[0] == self.parameters[1] and self.macs[0] == self.macs[1]


class SideBySideDocument(Result, Document):
    """The document of ``count A --against B --json``.

    ``rows`` start with the largest difference. ``equal`` is true if every row has the same parameters
    and the same operations on both sides. An explanation is empty if none was found.
    """

    first: str
    second: str
    output_stride: int
    size: tuple[int, int]
    classes: int
    convention: str
    mode: Mode
    scales: tuple[float, ...]
    flip: bool
    equal: bool
    total: DifferenceModel
    rows: tuple[DifferenceModel, ...]
    operations_explained: str
    parameters_explained: str

    @property
    def exit_code(self) -> ExitCode:
        """The exit status of ``count --against``."""
        return ExitCode.DONE if self.equal else ExitCode.DIFFERENT

    @property
    def text(self) -> str:
        """The table and the lines below it that ``count --against`` prints."""
        from deeplab_spec.count.text import side_by_side_grid, side_by_side_summary
        from deeplab_spec.views.table import plain

        return f"{plain(side_by_side_grid(self))}\n{side_by_side_summary(self)}"

    @property
    def summary(self) -> str:
        """Whether the networks are equal, and the differences of their totals."""
        (parameters, parameters_of_second), (macs, macs_of_second) = self.total.parameters, self.total.macs
        if self.equal:
            return f"{self.first} and {self.second} are equal: {parameters:,} parameters, {macs:,} operations"
        return (
            f"{self.second} has {parameters_of_second - parameters:+,} parameters and {macs_of_second - macs:+,} "
            f"operations ({self.convention}) relative to {self.first}"
        )


def side_by_side(first: tuple[Cost, ...], second: tuple[Cost, ...]) -> tuple[DifferenceModel, ...]:
    """Pair costs by path; the largest difference of operations comes first, then of parameters."""
    left = {cost.path: cost for cost in first}
    right = {cost.path: cost for cost in second}
    rows = [difference(path, left.get(path), right.get(path)) for path in dict.fromkeys([*left, *right])]
    return tuple(sorted(rows, key=lambda row: (-_distance(row.macs), -_distance(row.parameters))))


def difference(path: str, first: Cost | None, second: Cost | None) -> DifferenceModel:
    """Return the row of two costs; None, for a path that a network does not have, counts as zero."""
    return DifferenceModel(
        path=path,
        parameters=(first.sizes.parameters if first else 0, second.sizes.parameters if second else 0),
        macs=(first.operations if first else 0, second.operations if second else 0),
    )


def _distance(values: tuple[Number, Number]) -> Number:
    return abs(values[0] - values[1])


def operations_explained(first: Counter, second: Counter, convention: Convention, mode: Mode) -> str:
    """Return the simplest agreement of two networks' operations: ``equal under fvcore minus batch_norm``; or nothing.

    The requested convention is tried first, those that do not support the mode never.
    """
    conventions = [convention, *(entry for entry in CONVENTIONS if entry is not convention and mode in entry.modes)]
    costs = {entry.name: (block_costs(first(entry)), block_costs(second(entry))) for entry in conventions}
    for entry in conventions:
        left, right = costs[entry.name]
        totals = (total_cost(left), total_cost(right))
        operators = [name for name in {**totals[0].operators, **totals[1].operators} if name != _ALWAYS_COUNTED]
        for excluded in chain.from_iterable(combinations(operators, count) for count in range(_MOST_EXCLUDED + 1)):
            if _remaining(totals[0].operators, excluded) == _remaining(totals[1].operators, excluded):
                text = " minus ".join([f"equal under {entry.name}", *([" and ".join(excluded)] if excluded else [])])
                return text if _equal_blocks(left, right, excluded) else f"{text}, in total only: blocks differ"
    return ""


def _equal_blocks(left: tuple[Cost, ...], right: tuple[Cost, ...], excluded: tuple[str, ...]) -> bool:
    """Return whether the remaining operations are equal in every block."""
    first = {cost.path: _remaining(cost.operators, excluded) for cost in left}
    second = {cost.path: _remaining(cost.operators, excluded) for cost in right}
    return all(first.get(path, 0) == second.get(path, 0) for path in {*first, *second})


def _remaining(operators: Mapping[str, Number], excluded: tuple[str, ...]) -> Number:
    return sum(count for name, count in operators.items() if name not in excluded)


def parameters_explained(first: Cost, second: Cost) -> str:
    """Return which parameters of two networks agree; empty if none do."""
    counts: dict[str, Callable[[Cost], int]] = {
        "parameters": lambda cost: cost.sizes.parameters,
        "parameters without dead biases": lambda cost: cost.sizes.parameters - cost.sizes.dead_biases,
        "parameters with normalisations folded": lambda cost: cost.sizes.folded_parameters,
        "parameters with running statistics": lambda cost: cost.sizes.parameters + cost.sizes.buffers,
    }
    for name, count in counts.items():
        if count(first) == count(second):
            return f"equal in {name}"
    for name, count in counts.items():
        for other, other_count in counts.items():
            if count(first) == other_count(second):
                return f"the {name} of the first are the {other} of the second"
    return ""
