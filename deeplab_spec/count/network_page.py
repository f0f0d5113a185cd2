"""The report on what one network costs, and the list of all of them, as Markdown."""

from collections.abc import Sequence
from typing import Final

from deeplab_spec.analysis.costs import Number
from deeplab_spec.count.network_costs import ConventionModel, CostReport
from deeplab_spec.views.table import Grid, integer, markdown, number, shape

COMMAND: Final = "deeplab-spec count --report reports/costs"
"""What makes the reports again."""

_MEGA: Final = 1e6
_MEANINGS: Final = """\
MACs are multiply-adds of convolutions. FLOPs are those of the convention `full`: every operation of
every operator, of one evaluation and of one training step. Bytes are of float32, with every operator
run alone: *moved* are read or written by an evaluation, *kept* wait for the backward pass of a
training step (those that several operators need are counted once), *live* is the most that is alive
at once in an evaluation while the block runs, without parameters; *per byte* are FLOPs forward per
byte moved. M is a million. The total of what is kept has the image too, which is no block's."""


def network_page(report: CostReport) -> str:
    """Return the report on one network."""
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
    body = tuple(
        (
            f"`{block.path}`",
            shape(block.output),
            integer(block.parameters),
            _mega(report.multiply_adds[block.path]),
            _mega(block.flops),
            _mega(train.flops),
            _mega(block.bytes_read + block.bytes_written),
            _mega(block.bytes_kept),
            _mega(block.bytes_live),
            f"{block.intensity:.2f}",
        )
        for block, train in zip(report.blocks, report.train.blocks, strict=True)
    )
    total = report.total
    last = (
        "total",
        "",
        integer(total.parameters),
        _mega(sum(report.multiply_adds.values())),
        _mega(total.flops),
        _mega(report.train.total.flops),
        _mega(total.bytes_read + total.bytes_written),
        _mega(total.bytes_kept),
        f"at most {_mega(total.bytes_live)}",
        f"{total.intensity:.2f}",
    )
    headers = (
        "block",
        "output",
        "parameters",
        "MACs, M",
        "FLOPs forward, M",
        "FLOPs train, M",
        "MB moved",
        "MB kept",
        "MB live",
        "per byte",
    )
    return Grid(headers=headers, rows=(*body, last), right=frozenset(range(2, len(headers))))


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
        f"of a training step it says {integer(_torch_says(report))}, which is {integer(report.torch_undivided)} more."
    )


def _torch_says(report: CostReport) -> int:
    own = next(entry.train for entry in report.totals if entry.convention == "torch")
    return int(own or 0) + report.torch_undivided


def _stored(report: CostReport) -> str:
    total, train = report.total, report.train.total
    return (
        f"Stored: {integer(total.parameters)} parameters, of which {integer(total.dead_biases)} biases that a "
        f"normalisation makes dead, {integer(total.buffers)} running statistics; {integer(total.folded_parameters)} "
        f"parameters once normalisations are folded. With all that is stored, at most {_mega(total.peak_bytes)} MB "
        f"are alive at once in an evaluation, {_mega(train.peak_bytes)} MB in a training step (without an optimizer)."
    )


def _mega(count: float) -> str:
    return f"{count / _MEGA:,.1f}"


def index_page(reports: Sequence[CostReport]) -> str:
    """Return the list of all reports, with a line of totals for each."""
    first = reports[0]
    return "\n\n".join(
        (
            "# Costs of every published network",
            (
                f"{first.size[0]}x{first.size[1]} pixels, {first.classes} classes, float32, one image; every number is "
                f"computed from the specification. Made by `{COMMAND}`, which a test compares with these files."
            ),
            (
                "[published.md](published.md): the paper's figures, how far a reconstruction is from each, predictions "
                "for other evaluations and sizes, and which readings of the paper its figures rule out."
            ),
            markdown(_index(reports)),
            (
                "B is a billion, *peak* what is alive at once with all that is stored (in training without an "
                "optimizer). Every report tells the conventions apart; `tfprof` is a reconstruction, see published.md."
            ),
            "## What torch's counter says of a training step",
            (
                "FlopCounterMode of torch 2.13 counts the weight gradient of a depthwise convolution without dividing "
                "by its groups. The convention `torch` divides; this is what the counter says instead:"
            ),
            markdown(_torch_index(reports)),
        )
    )


def _index(reports: Sequence[CostReport]) -> Grid:
    conventions = [entry.convention for entry in reports[0].totals]
    headers = (
        "variant",
        "output stride",
        "parameters",
        *(f"`{name}`, B" for name in conventions),
        "`full` train, B",
        "GB moved",
        "peak MB",
        "peak MB train",
        "report",
    )
    return Grid(
        headers=headers,
        rows=tuple(
            (
                f"`{report.variant}`",
                str(report.output_stride),
                integer(report.total.parameters),
                *(_billions(entry.forward) for entry in report.totals),
                _billions(report.train.total.flops),
                f"{(report.total.bytes_read + report.total.bytes_written) / 1e9:.3f}",
                _mega(report.total.peak_bytes),
                _mega(report.train.total.peak_bytes),
                ", ".join(
                    f"[{name}]({report.name}.{ending})"
                    for name, ending in (("table", "md"), ("exact", "json"), ("picture", "svg"))
                ),
            )
            for report in reports
        ),
        right=frozenset(range(1, len(headers) - 1)),
    )


def _torch_index(reports: Sequence[CostReport]) -> Grid:
    return Grid(
        headers=("variant", "output stride", "`torch` train", "torch 2.13 says", "ratio"),
        rows=tuple(
            (
                f"`{report.variant}`",
                str(report.output_stride),
                integer(says - report.torch_undivided),
                integer(says),
                f"{says / (says - report.torch_undivided):.2f}",
            )
            for report, says in ((report, _torch_says(report)) for report in reports)
        ),
        right=frozenset({1, 2, 3, 4}),
    )


def _billions(count: Number) -> str:
    return f"{count / 1e9:,.3f}"
