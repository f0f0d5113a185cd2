"""The JSON document of ``bench``, and its table."""

from typing import Final, Literal

from deeplab_spec.measure.statistics import CeilingsModel, RatioModel
from deeplab_spec.views.document import Document, Model
from deeplab_spec.views.table import Grid, integer, markdown

Status = Literal["timed", "refused", "failed", "not run"]
_MEBI: Final = 2**20


class ErrorModel(Model):
    """Relative errors against float64: root mean square, and largest element."""

    mean: float
    most: float


class ClockModel(Model):
    """The clock: MHz as read, and the time of a loop of fixed length, each the median over the runs."""

    megahertz: float | None
    spin_seconds: float


class SpeedModel(CeilingsModel):
    """The ceilings in float32, and the processor's seconds for a loop of fixed length."""

    spin_seconds: float


class ModeModel(Model):
    """One mode in one case; a value that was not measured is null, and ``reason`` says why."""

    mode: str
    does: str
    precision: str
    status: Status
    reason: str = ""
    seconds: tuple[float, ...] = ()
    median_seconds: float | None = None
    images_per_second: float | None = None
    ratio: RatioModel | None = None
    roofline_fraction: float | None = None
    peak_memory_bytes: int | None = None
    error: ErrorModel | None = None
    allowed: ErrorModel | None = None
    prepare_seconds: float | None = None
    clock: ClockModel | None = None


class BenchCaseModel(Model):
    """Every mode in one case.

    All counts are for the whole batch. FLOPs (convention ``full``) and bytes (float32) are the sums over the
    operators, each run alone. The least FLOPs and numbers are the work that no implementation can avoid: the
    products of direct convolutions; images, kernels and results. The roofline of a mode is the time of the least
    work.
    """

    title: str
    network: str
    output_stride: int
    size: tuple[int, int]
    batch: int
    flops: int
    bytes: int
    least_flops: int
    least_numbers: int
    ceilings: dict[str, CeilingsModel]
    modes: tuple[ModeModel, ...]
    fastest: str | None


class LeftOutModel(Model):
    """A case that did not fit into the time budget."""

    title: str
    reason: str


class BenchDocument(Document):
    """The document of ``bench --json``; ``seconds`` is its duration, ``estimated_seconds`` the estimate before it."""

    target: str
    classes: int
    device: str
    device_name: str | None
    threads: int | None
    runs: int
    versions: dict[str, str]
    estimated_seconds: float
    seconds: float
    cases: tuple[BenchCaseModel, ...]
    left_out: tuple[LeftOutModel, ...] = ()


_HEADERS: Final = ("mode", "median ms", "images/s", "x eager", "interval", "% of roofline", "peak MiB", "error")


def bench_grid(case: BenchCaseModel) -> Grid:
    """Return the modes of a case side by side."""
    return Grid(headers=_HEADERS, rows=tuple(map(_row, case.modes)), right=frozenset(range(1, len(_HEADERS))))


def _row(mode: ModeModel) -> tuple[str, ...]:
    if mode.status != "timed":
        return (mode.mode, mode.status, *("-",) * (len(_HEADERS) - 2))
    return (
        mode.mode,
        f"{1000 * (mode.median_seconds or 0):.1f}",
        f"{mode.images_per_second:.3g}",
        f"{mode.ratio.median:.2f}" if mode.ratio else "-",
        f"{mode.ratio.low:.2f}-{mode.ratio.high:.2f}" if mode.ratio else "-",
        f"{100 * mode.roofline_fraction:.0f}" if mode.roofline_fraction is not None else "-",
        integer((mode.peak_memory_bytes or 0) // _MEBI),
        f"{mode.error.mean:.1e}" if mode.error else "-",
    )


def bench_notes(case: BenchCaseModel) -> str:
    """Return the lines below the table: the modes that were not timed and why, the ceilings, the fastest mode."""
    lines = [f"{mode.mode}: {mode.status}: {mode.reason}" for mode in case.modes if mode.status != "timed"]
    for precision, ceilings in case.ceilings.items():
        flops, moved = ceilings.flops_per_second / 1e9, ceilings.bytes_per_second / 1e9
        lines.append(f"ceilings in {precision}: {flops:.0f} GFLOP/s, {moved:.1f} GB/s")
    lines.append(f"one run is {case.flops / 1e9:.1f} GFLOP and moves {case.bytes / 1e9:.2f} GB, one operator at a time")
    lines.append(
        f"the roofline is that of the least work: {case.least_flops / 1e9:.1f} GFLOP of convolutions, and "
        f"{case.least_numbers / 1e6:.1f} million numbers of images, kernels and results"
    )
    lines.append(f"fastest here: {case.fastest}" if case.fastest else "nothing was timed")
    return "\n".join(lines)


def bench_page(document: BenchDocument, command: str) -> str:
    """Return the document as Markdown, with the command that repeats it."""
    lines = [f"# Speed of {document.target} on {document.device_name or document.device}", ""]
    versions = ", ".join(f"{name} {version}" for name, version in document.versions.items())
    lines += [f"{document.threads} threads, {document.runs} runs of each mode in turn; {versions}. Made by", ""]
    lines += ["```console", command, "```"]
    for case in document.cases:
        lines += ["", f"## {_heading(document, case)}", "", markdown(bench_grid(case)), ""]
        lines += [f"- {line}" for line in bench_notes(case).splitlines()]
    if document.left_out:
        lines += ["", "## Left out", "", *(f"- {entry.title}: {entry.reason}" for entry in document.left_out)]
    return "\n".join(lines)


def _heading(document: BenchDocument, case: BenchCaseModel) -> str:
    several = len({entry.network for entry in document.cases}) > 1
    return f"{case.network}, {case.title}" if several and not case.title.startswith(case.network) else case.title
