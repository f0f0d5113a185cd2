"""The files of ``count --report``: costs of every published network, and published figures."""

from collections.abc import Callable, Iterator
from pathlib import Path

from deeplab_spec.analysis.subject import Subject
from deeplab_spec.count.chart import cost_chart
from deeplab_spec.count.network_costs import cost_report
from deeplab_spec.count.network_page import index_page, network_page
from deeplab_spec.count.published_page import published_page
from deeplab_spec.errors import TargetError
from deeplab_spec.spec.variants import VARIANTS
from deeplab_spec.views.document import to_json
from deeplab_spec.views.files import write_whole

Progress = Callable[[str, int, int], None]


def write_reports(directory: Path, progress: Progress = lambda _stage, _done, _total: None) -> tuple[Path, ...]:
    """Write every report; each file whole or not at all.

    Args:
        directory: Where to; made where it is missing.
        progress: Told what is done, how many are, and how many there are.

    Returns:
        The files, in the order in which they were written.

    Raises:
        TargetError: If a file cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(str(directory), f"cannot be made: {error.strerror}") from error
    written = []
    for name, text in cost_reports(progress):
        write_whole(directory / name, f"{text}\n")
        written.append(directory / name)
    return tuple(written)


def cost_reports(progress: Progress = lambda _stage, _done, _total: None) -> Iterator[tuple[str, str]]:
    """Return the name and the text of every file."""
    subjects = [
        Subject(variant=variant, choices=variant.choices, output_stride=stride)
        for variant in VARIANTS
        for stride in variant.output_strides
    ]
    total = len(subjects) + 1
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
    yield "README.md", index_page(reports)
    progress("done", total, total)
