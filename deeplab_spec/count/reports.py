"""The files of ``count --report``: costs of every published network, and published figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from deeplab_spec.count.chart import cost_chart
from deeplab_spec.count.counter_errors import counters_page
from deeplab_spec.count.network_report import (
    COMMAND,
    CostReport,
    billions,
    cost_report,
    mega,
    network_page,
    torch_counter,
)
from deeplab_spec.count.published_page import published_page
from deeplab_spec.spec.api import Subject, usual_size
from deeplab_spec.spec.variants import VARIANTS
from deeplab_spec.views.document import to_json, write_whole, written_together
from deeplab_spec.views.progress import Progress, silent
from deeplab_spec.views.table import Grid, integer, markdown


def write_reports(directory: Path, progress: Progress = silent) -> tuple[Path, ...]:
    """Write every report, all or none; return the files in order.

    Raises:
        TargetError: If a file cannot be written.
    """
    written = []
    with written_together(directory) as folder:
        for name, text in cost_reports(progress):
            write_whole(folder / name, f"{text}\n")
            written.append(directory / name)
    return tuple(written)


def cost_reports(progress: Progress = silent) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every file."""
    subjects = [
        Subject(variant=variant, choices=variant.choices, output_stride=stride, size=usual_size(variant, stride))
        for variant in VARIANTS
        for stride in variant.output_strides
    ]
    total = len(subjects) + 2
    reports = []
    for done, subject in enumerate(subjects):
        progress(f"{subject.variant.name}, output stride {subject.output_stride}", done, total)
        report = cost_report(subject)
        reports.append(report)
        yield f"{report.name}.md", network_page(report)
        yield f"{report.name}.json", to_json(report)
        yield f"{report.name}.svg", cost_chart(report)
    progress("published figures", len(subjects), total)
    yield "published.md", published_page()
    progress("counters", len(subjects) + 1, total)
    yield "counters.md", counters_page()
    yield "README.md", index_page(reports)
    progress("done", total, total)


def index_page(reports: Sequence[CostReport]) -> str:
    """Return the list of all reports, with a row of totals for each."""
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
            "[counters.md](counters.md): what the common counters get wrong on this family, and by how much.",
            markdown(_index(reports)),
            (
                "B is a billion. *Peak* is the memory in use at once, with parameters and running statistics (in "
                "training without an optimizer). Every report describes the conventions; `tfprof` is a reconstruction, "
                "see published.md."
            ),
            "## What torch's counter reports for a training step",
            (
                "FlopCounterMode of torch 2.13 counts the weight gradient of a depthwise convolution without dividing "
                "by its groups. The convention `torch` divides; the counter reports:"
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
                *(billions(entry.forward) for entry in report.totals),
                billions(report.train.total.flops),
                f"{(report.total.bytes_read + report.total.bytes_written) / 1e9:.3f}",
                mega(report.total.peak_bytes),
                mega(report.train.total.peak_bytes),
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
        headers=("variant", "output stride", "`torch` train", "torch 2.13 reports", "ratio"),
        rows=tuple(
            (
                f"`{report.variant}`",
                str(report.output_stride),
                integer(reported - report.torch_undivided),
                integer(reported),
                f"{reported / (reported - report.torch_undivided):.2f}",
            )
            for report, reported in ((report, torch_counter(report)) for report in reports)
        ),
        right=frozenset({1, 2, 3, 4}),
    )
