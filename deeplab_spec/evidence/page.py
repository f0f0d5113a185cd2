"""A certificate as one page: verdict, the network with its findings on it, every clause, and a plot of its errors."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from markupsafe import Markup

from deeplab_spec.analysis.costs import block_of
from deeplab_spec.errors import GraphError, SpecError, printable
from deeplab_spec.judge.certificate import Certificate, ClauseRecord, StepError
from deeplab_spec.judge.expected import part_of
from deeplab_spec.judge.finding import Finding, RunVerdict, Verdict
from deeplab_spec.judge.text import sentence, worded
from deeplab_spec.show.drawing import lay_out
from deeplab_spec.show.shapes import Box, Drawing
from deeplab_spec.spec.api import Subject, usual_size
from deeplab_spec.spec.choices import about, choose, names, read_overrides
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.clauses import clause as named
from deeplab_spec.spec.variants import variant
from deeplab_spec.views.template import render

MOST_LETTERS: Final = 600_000
"""Letters of all findings; a page stays far below 2 MB, and certificate.json has the rest."""

_LONGEST: Final = 240
_HEADLINES: Final = {
    RunVerdict.CONFORMS: "Conforms to",
    RunVerdict.CONFORMS_WITH_WAIVERS: "Conforms with waivers to",
    RunVerdict.INCONCLUSIVE: "Inconclusive against",
    RunVerdict.DEVIATES: "Deviates from",
}
_VERDICTS: Final = (Verdict.FAILED, Verdict.UNDECIDED, Verdict.WAIVED, Verdict.PASSED, Verdict.NOT_APPLICABLE)
"""The order of the clauses; of one verdict, those of the structure come first, whose findings are causes."""

_FIRST: Final = Level.STRUCTURE
_RUN: Final = re.compile(r"(\d+)\.\.(\d+)$")

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 1100, 300, 64, 34, 24, 16
LEAST, MOST = -18, 2
"""Powers of ten at the lower and the upper edge; an error of zero stands at the lower edge."""

TICKS: Final = (-16, -12, -8, -4, 0)
LARGEST: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One finding as the page shows it."""

    path: str
    own: str
    attribute: str
    expected: str
    actual: str
    choice: str
    meaning: str
    hint: str
    stride: int

    @property
    def letters(self) -> int:
        """Its length."""
        return len(self.path + self.own + self.expected + self.actual + self.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One clause with its findings; ``left_out`` of them have no room."""

    record: ClauseRecord
    sentence: str
    source: str
    lines: tuple[Line, ...]
    left_out: int

    @property
    def open(self) -> bool:
        """Whether it did not pass."""
        return self.record.verdict not in {Verdict.PASSED, Verdict.NOT_APPLICABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The findings at one box of the diagram."""

    box: Box
    path: str
    count: int


def page(certificate: Certificate) -> str:
    """Return the page; it needs no network connection, and every text in it is escaped."""
    drawn = _drawing(certificate)
    return render(
        "certificate.html.j2",
        shown=_shown,
        certificate=certificate,
        headline=f"{_HEADLINES[certificate.verdict]} {certificate.reference}",
        sentence=sentence(certificate),
        groups=_groups(certificate),
        counts={level: _counted(certificate, level) for level in certificate.levels},
        strides=list(dict.fromkeys(case.output_stride for case in certificate.cases)),
        dtypes=list(dict.fromkeys(case.dtype for case in certificate.cases)),
        first=certificate.first_divergence,
        diagram=Markup(_overlaid(*drawn)) if drawn else None,  # noqa: S704 - escaped by its own template
        plots=plots(certificate),
        worded=worded,
    )


def _shown(value: object) -> object:
    """Return a value without characters that a terminal or an editor would obey; the drawing has none."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _counted(certificate: Certificate, level: str) -> str:
    counts = Counter(clause.verdict.value for clause in certificate.clauses if clause.level == level)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def _groups(certificate: Certificate) -> list[Group]:
    room, groups = MOST_LETTERS, []
    family = variant(certificate.variant).family if certificate.variant else None
    meanings = {name: about(name, family).meaning for name in names(family)} if family else {}
    for record in sorted(certificate.clauses, key=lambda each: (_VERDICTS.index(each.verdict), each.level != _FIRST)):
        lines = []
        for line in (_line(finding, meanings) for finding in record.findings):
            room -= line.letters
            if room > 0:
                lines.append(line)
        clause = named(record.id)
        groups.append(
            Group(
                record=record,
                sentence=clause.sentence,
                source=str(clause.source),
                lines=tuple(lines),
                left_out=len(record.findings) - len(lines),
            )
        )
    return groups


def _line(finding: Finding, meanings: Mapping[str, str]) -> Line:
    return Line(
        path=_short(finding.path),
        own=_short(finding.candidate_path or ""),
        attribute=_short(finding.attribute),
        expected=_short(worded(finding.expected)),
        actual=_short(worded(finding.actual)),
        choice=finding.choice or "",
        meaning=meanings.get(finding.choice or "", ""),
        hint=_short(finding.hint),
        stride=finding.output_stride,
    )


def _short(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


def _drawing(certificate: Certificate) -> tuple[Drawing, list[Mark]] | None:
    """Lay out the specification, with a mark at every box that has findings; None if there is no published network."""
    if certificate.variant is None or not certificate.settings.output_strides:
        return None
    published = variant(certificate.variant)
    try:
        subject = Subject(
            variant=published,
            choices=choose(published.choices, read_overrides(certificate.settings.overrides, published.family)),
            output_stride=certificate.settings.output_strides[0],
            size=usual_size(published, certificate.settings.output_strides[0]),
            classes=certificate.classes,
        )
        drawn = lay_out(subject)
    except (GraphError, SpecError):
        return None
    findings = [finding for clause in certificate.clauses for finding in clause.findings]
    return drawn, list(_marks(drawn.boxes, findings))


def _marks(boxes: Sequence[Box], findings: Sequence[Finding]) -> Iterator[Mark]:
    counts = Counter(block_of(finding.path) for finding in findings)
    for box in boxes:
        name = box.lines[0].split(",")[0]
        path = name if name.startswith(("aspp", "decoder", "output")) else f"backbone.{name}"
        count = sum(number for block, number in counts.items() if _within(block, path))
        if count:
            yield Mark(box=box, path=_RUN.sub("", path), count=count)


def _within(block: str, path: str) -> bool:
    """Tell whether a block is in a box; a box of a run of blocks is named ``block1..16``.

    >>> _within("backbone.middle_flow.block7", "backbone.middle_flow.block1..16")
    True
    """
    run = _RUN.search(path)
    if run is None:
        return block == path or block.startswith(f"{path}.")
    return re.match(rf"{re.escape(path[: run.start()])}\d+(\.|$)", block) is not None


def _overlaid(drawn: Drawing, marks: Sequence[Mark]) -> str:
    """Return the drawing with the marks on top; each is a link that filters the findings."""
    svg = render("network.svg.j2", d=drawn)
    return f"{svg.removesuffix('</svg>')}{render('marks.svg.j2', marks=marks)}\n</svg>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One step."""

    x: float
    y: float
    path: str
    error: str
    over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A part of the network along the horizontal axis."""

    name: str
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """The errors at one output stride."""

    stride: int
    dots: tuple[Dot, ...]
    limit: float
    bands: tuple[Band, ...]

    @property
    def over(self) -> int:
        """The number of steps over the limit."""
        return sum(dot.over for dot in self.dots)

    @property
    def ticks(self) -> tuple[tuple[int, float], ...]:
        """Powers of ten, each with its height."""
        return tuple((power, height(10.0**power)) for power in TICKS)

    @property
    def largest(self) -> list[Dot]:
        """The steps with the largest errors."""
        return sorted(self.dots, key=lambda dot: dot.y)[:LARGEST]


def height(error: float | None) -> float:
    """Return where an error stands, in pixels from above.

    >>> height(0.0) > height(1e-16) > height(1.0)
    True
    """
    power = MOST if error is None else LEAST if error <= 0 else math.log10(error)
    share = (min(max(power, LEAST), MOST) - LEAST) / (MOST - LEAST)
    return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)


def plots(certificate: Certificate) -> list[Plot]:
    """Return one plot for each output stride."""
    grouped = groupby(certificate.steps, key=lambda step: step.output_stride)
    return [_plot(stride, list(steps)) for stride, steps in grouped]


def _plot(stride: int, steps: Sequence[StepError]) -> Plot:
    gap = (WIDTH - LEFT - RIGHT) / max(1, len(steps))
    dots = tuple(
        Dot(
            x=round(LEFT + gap * (number + 0.5), 1),
            y=height(step.error),
            path=step.path,
            error="not finite" if step.error is None else f"{step.error:.2g}",
            over=step.error is None or not step.error <= step.allowed,
        )
        for number, step in enumerate(steps)
    )
    limit = height(max(step.allowed for step in steps))
    return Plot(stride=stride, dots=dots, limit=limit, bands=tuple(_bands(steps, gap)))


def _bands(steps: Sequence[StepError], gap: float) -> Iterator[Band]:
    start = 0
    for name, members in groupby(steps, key=lambda step: part_of(step.path) or ""):
        count = len(list(members))
        yield Band(name=name, x=round(LEFT + gap * start, 1), width=round(gap * count, 1))
        start += count
