"""``count A --against B``: the document, the table and the words."""

from collections.abc import Callable

from deeplab_spec.analysis.conventions import Convention
from deeplab_spec.analysis.costs import Cost, Number, block_costs, total_cost
from deeplab_spec.analysis.protocol import Protocol
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.count.document import asked
from deeplab_spec.count.reconcile import Row, operations_explained, parameters_explained, side_by_side
from deeplab_spec.exit_codes import ExitCode
from deeplab_spec.graph.ops import Pair
from deeplab_spec.result import Result
from deeplab_spec.views.document import Document, Model
from deeplab_spec.views.table import Grid, integer, number, plain


class DifferenceModel(Model):
    """What one block, node or network costs on both sides, the first network first."""

    path: str
    parameters: tuple[int, int]
    macs: tuple[Number, Number]


class SideBySideDocument(Result, Document):
    """The document of ``count A --against B --json``.

    ``rows`` come with the largest difference first. ``equal`` is true if every row has the same
    parameters and the same operations on both sides. The explanations are empty where none is found.
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
        return f"{plain(side_by_side_grid(self))}\n{side_by_side_summary(self)}"

    @property
    def summary(self) -> str:
        """Whether they are equal, and by how much they differ."""
        (mine, yours), (before, after) = self.total.parameters, self.total.macs
        if self.equal:
            return f"{self.first} and {self.second} are equal: {mine:,} parameters, {before:,} operations"
        return (
            f"{self.second} has {yours - mine:+,} parameters and {after - before:+,} operations "
            f"({self.convention}) beside {self.first}"
        )


def side_by_side_document(
    first: tuple[str, Callable[[Convention], tuple[Cost, ...]]],
    second: tuple[str, Callable[[Convention], tuple[Cost, ...]]],
    *,
    output_stride: int,
    size: Pair,
    classes: int,
    convention: Convention,
    mode: Mode,
    protocol: Protocol,
    by_node: bool = False,
) -> SideBySideDocument:
    """Put two networks side by side.

    Args:
        first: Name of the first network, and what counts its nodes under a convention.
        second: The same of the second.
        output_stride: Of both.
        size: Height and width of the image.
        classes: Channels of the logits.
        convention: What counts as one operation.
        mode: Whether an evaluation or a training step is counted.
        protocol: Scales and mirrored images.
        by_node: Whether a row is a node, not a block.
    """
    mine, yours = first[1](convention), second[1](convention)
    pairs = side_by_side(mine, yours) if by_node else side_by_side(block_costs(mine), block_costs(yours))
    rows = tuple(_difference(row) for row in pairs)
    totals = (total_cost(mine), total_cost(yours))
    return SideBySideDocument(
        first=first[0],
        second=second[0],
        output_stride=output_stride,
        size=size,
        classes=classes,
        **asked(convention, mode, protocol),
        equal=all(row.parameters[0] == row.parameters[1] and row.macs[0] == row.macs[1] for row in rows),
        total=_difference(Row(path="total", first=totals[0], second=totals[1])),
        rows=rows,
        operations_explained=operations_explained(first[1], second[1], convention, mode),
        parameters_explained=parameters_explained(*totals),
    )


def _difference(row: Row) -> DifferenceModel:
    return DifferenceModel(path=row.path, parameters=row.parameters(), macs=row.operations())


def side_by_side_grid(document: SideBySideDocument) -> Grid:
    """Return the table: what differs, the largest difference first, and the total."""
    shown = [row for row in document.rows if row.parameters[0] != row.parameters[1] or row.macs[0] != row.macs[1]]
    body = tuple(
        (
            row.path,
            integer(row.parameters[0]),
            _signed(row.parameters),
            number(row.macs[0]),
            _signed(row.macs),
        )
        for row in (*shown, document.total)
    )
    headers = ("path", "parameters", "second's", document.convention, "second's")
    return Grid(headers=headers, rows=body, right=frozenset({1, 2, 3, 4}), total=bool(shown))


def _signed(values: tuple[Number, Number]) -> str:
    difference = values[1] - values[0]
    return f"{difference:+,}" if difference else "="


def side_by_side_summary(document: SideBySideDocument) -> str:
    """Return the lines below the table."""
    equal = sum(row.parameters[0] == row.parameters[1] and row.macs[0] == row.macs[1] for row in document.rows)
    lines = [
        f"first: {document.first}",
        f"second: {document.second}",
        f"{equal} of {len(document.rows)} rows are equal",
        f"operations: {document.operations_explained or 'no convention explains the difference'}",
        f"parameters: {document.parameters_explained or 'no way of counting explains the difference'}",
    ]
    return "\n".join(lines)
