"""Finds again, on the graph alone, what the structure must have found.

Where the digest of a candidate's graph is that of the nearest network, that network is the candidate's graph, and its
differences from the specification are the findings.
"""

from collections import Counter
from collections.abc import Iterator

from deeplab_spec.align.canonical import canonical, digest
from deeplab_spec.align.differences import aspects, nearer_alignment
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.errors import GraphError, SpecError
from deeplab_spec.graph.folding import folded
from deeplab_spec.judge.certificate import Certificate, Nearest, Subject
from deeplab_spec.judge.expected import plan_of
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.plan import SpecifiedPlan
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.check import by_clause
from deeplab_spec.spec.choices import Choices, choose, read_overrides, written
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.variants import variant
from deeplab_spec.verify.document import Problem

_COUNTS = "BLOCK-COUNTS"
_UNDECIDED = {Verdict.UNDECIDED, Verdict.NOT_APPLICABLE}


def choices_of(nearest: Nearest) -> Choices:
    """Return every choice of the nearest network.

    Raises:
        SpecError: If there is no such variant, choice or value.
    """
    entry = variant(nearest.variant)
    overrides = (f"{name}={_text(value)}" for name, value in nearest.choices.items())
    return choose(entry.choices, read_overrides(overrides, entry.family))


def _text(value: object) -> str:
    return written(tuple(value) if isinstance(value, list) else value) or "none"  # type: ignore[arg-type]  # JSON data


def structure(certificate: Certificate, request: Request) -> Iterator[Problem]:
    """Check the findings of the structure against the differences of the two graphs."""
    if certificate.nearest is None or Level.STRUCTURE not in request.levels:
        return
    choices = choices_of(certificate.nearest)
    for subject in certificate.subjects:
        aligned = _aligned(request, subject, choices)
        if aligned and digest(canonical(aligned[1].candidate, aligned[1])) == subject.graph:
            yield from _compared(certificate, subject, *aligned)


def _aligned(request: Request, subject: Subject, choices: Choices) -> tuple[SpecifiedPlan, Alignment] | None:
    """Align the nearest network with the specification as the candidate was; None where it does not fit."""
    if subject.image is None:
        return None
    planned = plan_of(request, subject)
    try:
        sides = [planned.expected(subject.image, each) for each in (None, choices)]
    except (GraphError, SpecError):
        return None
    expected, nearest = (_folded(side, subject) for side in sides)
    return planned, nearer_alignment(align(expected, nearest), nearest)


def _folded(side: Shaped, subject: Subject) -> Shaped:
    return side.with_network(folded(side.network, None if subject.folded else subject.norms))


def _compared(
    certificate: Certificate, subject: Subject, planned: SpecifiedPlan, alignment: Alignment
) -> Iterator[Problem]:
    found = by_clause(aspects(alignment), planned.unstrided)
    for record in certificate.clauses:
        if record.level != Level.STRUCTURE or record.id == _COUNTS or record.verdict in _UNDECIDED:
            continue
        expected = Counter((each.path, each.attribute) for each in found.get(record.id, ()) if not each.equal)
        mine = (finding for finding in record.findings if finding.output_stride == subject.output_stride)
        stated = Counter((finding.path, finding.attribute) for finding in mine)
        for path, attribute in expected - stated:
            yield Problem(where=record.id, problem=f"must have a finding at {path}: {attribute} differs in its graph")
        for path, attribute in stated - expected:
            yield Problem(where=record.id, problem=f"has a finding at {path}, but {attribute} is right in its graph")
