"""The report on what one network costs: its document, and its page in Markdown."""

from collections.abc import Sequence
from typing import Final

from deeplab_spec.analysis.conventions import CONVENTIONS, FULL, MAC, TFPROF, Convention, undivided_weight_gradients
from deeplab_spec.analysis.costs import Number, Values, block_costs, evaluate, node_costs, total_operations
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.count.document import (
    CountDocument,
    FiguresModel,
    PublishedModel,
    TotalModel,
    cost_fields,
    count_document,
    published_figure,
)
from deeplab_spec.graph.network import Network
from deeplab_spec.spec.api import Subject
from deeplab_spec.views.document import Model
from deeplab_spec.views.table import Grid, integer, markdown, number, shape

COMMAND: Final = "deeplab-spec count --report reports/costs"
"""The command that writes the reports."""

_MEGA: Final = 1e6
_MEANINGS: Final = """\
MACs are multiply-adds of convolutions. FLOPs are those of the convention `full`: every operation of
every operator, for one evaluation and for one training step. Bytes are for float32, with every operator
run separately: *moved* bytes are read or written by an evaluation; *kept* bytes are saved for the backward
pass of a training step (bytes that several operators need are counted once); *live* is the peak of memory
in use in an evaluation while the block runs, without parameters; *per byte* is FLOPs forward per
byte moved. M is a million. The total of kept bytes includes the image, which belongs to no block."""


class TrainBlockModel(FiguresModel):
    """The cost of a training step in one block."""

    path: str


class TrainModel(Model):
    """The cost of a training step; ``macs`` is the count of the convention ``full``."""

    total: TotalModel
    blocks: tuple[TrainBlockModel, ...]


class ConventionModel(Model):
    """A network's total under one convention; ``train`` is null if that counts no backward pass.

    ``prediction`` is true if the convention reconstructs published figures, but none is published here.
    """

    convention: str
    unit: str
    title: str
    forward: Number
    train: Number | None
    published: PublishedModel | None
    prediction: bool


class CostReport(CountDocument):
    """The document of ``count --convention full``, with the other figures of a report.

    ``multiply_adds`` are those of convolutions, by block. ``torch_undivided`` is how much more than the
    convention ``torch`` the FlopCounterMode of torch 2.13 reports for a training step: it does not divide
    the weight gradients of grouped convolutions by their groups.
    """

    multiply_adds: dict[str, int]
    train: TrainModel
    totals: tuple[ConventionModel, ...]
    torch_undivided: int

    @property
    def name(self) -> str:
        """The name of the report's files, without a suffix."""
        return f"{self.variant}-os{self.output_stride}"


def cost_report(subject: Subject) -> CostReport:
    """Count one network under every convention.

    Raises:
        GraphError: If the choices do not fit together at this size.
    """
    graph = subject.network()
    known = shapes(graph, subject.size)
    full = count_document(subject, convention=FULL)
    train = cost_fields(node_costs(graph, known, FULL, Mode.TRAIN), {})
    macs = {block.path: int(block.operations) for block in block_costs(node_costs(graph, known, MAC))}
    figures = set(FiguresModel.model_fields)
    return CostReport(
        **dict(full),
        multiply_adds={block.path: macs[block.path] for block in full.blocks},
        train=TrainModel(
            total=train["total"],
            blocks=tuple(
                TrainBlockModel(path=block.path, **block.model_dump(include=figures)) for block in train["blocks"]
            ),
        ),
        totals=tuple(_totals(subject, graph, known, convention) for convention in CONVENTIONS),
        torch_undivided=sum(evaluate(undivided_weight_gradients(node), known) for node in graph),
    )


def _totals(subject: Subject, graph: Network, known: Values, convention: Convention) -> ConventionModel:
    forward = total_operations(graph, known, convention)
    trains = Mode.TRAIN in convention.modes
    figure = published_figure(subject, forward) if convention is TFPROF else None
    return ConventionModel(
        convention=convention.name,
        unit=convention.unit,
        title=convention.title,
        forward=forward,
        train=total_operations(graph, known, convention, Mode.TRAIN) if trains else None,
        published=figure,
        prediction=convention is TFPROF and figure is None,
    )


def network_page(report: CostReport) -> str:
    """Return the page of the report on one network."""
    height, width = report.size
    return "\n\n".join(
        (
            f"# Costs of `{report.variant}` at output stride {report.output_stride}",
            (
                f"{height}x{width} pixels, {report.classes} classes, float32, one image. "
                f"Exact numbers: [{report.name}.json]({report.name}.json). Made by `{COMMAND}`."
            ),
            f"![Where parameters, multiply-adds and bytes are, block by block]({report.name}.svg)",
            "## By block",
            _MEANINGS,
            markdown(_blocks(report)),
            "## Totals",
            markdown(_conventions(report.totals)),
            "\n".join(f"- `{entry.convention}`: {entry.title}." for entry in report.totals),
            _torch(report),
            _stored(report),
        )
    )


def _blocks(report: CostReport) -> Grid:
    blocks = zip(report.blocks, report.train.blocks, strict=True)
    body = (
        (f"`{block.path}`", shape(block.output), *_costs(block, report.multiply_adds[block.path], train))
        for block, train in blocks
    )
    totals = list(_costs(report.total, sum(report.multiply_adds.values()), report.train.total))
    totals[-2] = f"at most {totals[-2]}"
    counts = ("parameters", "MACs, M", "FLOPs forward, M", "FLOPs train, M")
    headers = ("block", "output", *counts, "MB moved", "MB kept", "MB live", "per byte")
    return Grid(headers=headers, rows=(*body, ("total", "", *totals)), right=frozenset(range(2, len(headers))))


def _costs(cost: FiguresModel, macs: int, train: FiguresModel) -> tuple[str, ...]:
    moved = cost.bytes_read + cost.bytes_written
    millions = (macs, cost.flops, train.flops, moved, cost.bytes_kept, cost.bytes_live)
    return (integer(cost.parameters), *map(mega, millions), f"{cost.intensity:.2f}")


def _conventions(totals: Sequence[ConventionModel]) -> Grid:
    return Grid(
        headers=("convention", "unit", "forward", "train", "published"),
        rows=tuple(
            (
                f"`{entry.convention}`",
                entry.unit,
                number(entry.forward),
                "not counted" if entry.train is None else number(entry.train),
                _published(entry),
            )
            for entry in totals
        ),
        right=frozenset({2, 3}),
    )


def _published(entry: ConventionModel) -> str:
    if entry.published:
        return f"{entry.published.billions:.2f} B, residual {100 * entry.published.residual:+.4f} %"
    return "prediction" if entry.prediction else ""


def _torch(report: CostReport) -> str:
    return (
        f"FlopCounterMode of torch 2.13 does not divide the weight gradients of grouped convolutions by their groups: "
        f"for a training step it reports {integer(torch_counter(report))}, {integer(report.torch_undivided)} more."
    )


def torch_counter(report: CostReport) -> int:
    """Return what the FlopCounterMode of torch 2.13 reports for a training step."""
    own = next(entry.train for entry in report.totals if entry.convention == "torch")
    return int(own or 0) + report.torch_undivided


def _stored(report: CostReport) -> str:
    total, train = report.total, report.train.total
    return (
        f"Stored: {integer(total.parameters)} parameters, {integer(total.dead_biases)} of them biases without effect "
        f"before a normalisation, and {integer(total.buffers)} running statistics; {integer(total.folded_parameters)} "
        f"parameters with normalisations folded. With these, the peak of memory in use is {mega(total.peak_bytes)} MB "
        f"in an evaluation and {mega(train.peak_bytes)} MB in a training step (without an optimizer)."
    )


def mega(count: float) -> str:
    """Write a count in millions."""
    return f"{count / _MEGA:,.1f}"


def billions(count: Number) -> str:
    """Write a count in billions.

    >>> billions(65972773424)
    '65.973'
    """
    return f"{count / 1e9:,.3f}"
