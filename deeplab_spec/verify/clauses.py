"""Checks the clauses of a certificate: complete, decided often enough, and with verdicts that follow.

Where the digest of a candidate's graph is that of the nearest network, that network is the candidate's graph, and its
differences from the specification are the findings that the structure must have.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from deeplab_spec.align.canonical import canonical, digest
from deeplab_spec.align.differences import aspects, nearer_alignment
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.errors import GraphError, SpecError
from deeplab_spec.graph.folding import folded
from deeplab_spec.judge.certificate import Certificate, ClauseRecord, Nearest, Subject, WaiverRecord
from deeplab_spec.judge.expected import of_subject, plan_of
from deeplab_spec.judge.finding import Verdict, combined, run_verdict
from deeplab_spec.judge.plan import SpecifiedPlan, specification
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.check import by_clause
from deeplab_spec.judge.waivers import Waiver
from deeplab_spec.spec.choices import Choices, choose, names, read_overrides, written
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.variants import variant
from deeplab_spec.verify.document import Reason

_UNFOUND: Final = {Verdict.PASSED, Verdict.UNDECIDED, Verdict.NOT_APPLICABLE}
"""Verdicts of a clause without findings."""
_COUNTS = "BLOCK-COUNTS"
_UNDECIDED = {Verdict.UNDECIDED, Verdict.NOT_APPLICABLE}


def complete(certificate: Certificate, request: Request) -> Iterator[Reason]:
    """Check that every required clause is there, once, in its place."""
    stated, required = [clause.id for clause in certificate.clauses], request.clauses
    for clause in required:
        if clause.id not in stated:
            yield clause.id, "is missing: every required clause must be decided"
    known = {clause.id: clause.level.value for clause in required}
    for record in certificate.clauses:
        if record.id not in known:
            yield record.id, "is no clause that this certificate decides"
        elif record.level != known[record.id]:
            yield record.id, f"is a clause of {known[record.id]}, not of {record.level}"
    if set(stated) == set(known) and stated != list(known):
        yield "clauses", "must each occur once, in the order of the specification"


def numbers(certificate: Certificate, request: Request) -> Iterator[Reason]:
    """Check the numbers of decisions against those that the specification expects."""
    counts = [of_subject(plan_of(request, subject), subject) for subject in certificate.subjects]
    for record in certificate.clauses:
        found = [each.get(record.id) for each in counts]
        required = sum(1 if each is None else each for each in found)
        if record.required != required:
            yield record.id, f"requires {required:,} decisions by the specification, not {record.required:,}"
        defined = sum(each is not None for each in found)
        if record.verdict is Verdict.PASSED and record.planted < defined:
            problem = f"passed with {record.planted} planted faults; {defined} are needed to show that it can fail"
            yield record.id, problem


def verdicts(certificate: Certificate) -> Iterator[Reason]:
    """Check that every verdict follows from what stands beside it, and that of levels and run from the clauses."""
    for record in certificate.clauses:
        yield from ((record.id, each) for each in _of_clause(record))
    for level, stated in certificate.levels.items():
        found = combined(clause.verdict for clause in certificate.clauses if clause.level == level)
        if stated is not found:
            yield f"levels.{level}", f"must be {found} by its clauses, not {stated}"
    found_run = run_verdict(clause.verdict for clause in certificate.clauses)
    if certificate.verdict is not found_run:
        yield "verdict", f"must be {found_run} by the clauses, not {certificate.verdict}"


def _of_clause(record: ClauseRecord) -> Iterator[str]:
    verdict = record.verdict
    if bool(record.findings) is (verdict in _UNFOUND):
        yield f"is {verdict}, but has {len(record.findings)} findings"
    if bool(record.reason) is not (verdict in _UNDECIDED):
        yield f"is {verdict}, but its reason is '{record.reason}'"
    if verdict is Verdict.PASSED and record.decisions < max(1, record.required):
        yield f"passed with {record.decisions:,} of {record.required:,} required decisions"
    if min(record.decisions, record.required, record.planted, record.killed) < 0 or record.killed > record.planted:
        yield f"cannot have made {record.decisions} decisions and refused {record.killed} of {record.planted} faults"
    if verdict is Verdict.PASSED and record.killed != record.planted:
        yield f"passed, but refused {record.killed} of {record.planted} planted faults"
    if verdict in {Verdict.FAILED, Verdict.WAIVED} and not record.decisions:
        yield f"is {verdict} without a decision"
    yield from _of_waivers(record)


def _of_waivers(record: ClauseRecord) -> Iterator[str]:
    paths = {finding.path for finding in record.findings}
    for waiver in record.waivers:
        if not waiver.covers or set(waiver.covers) != set(filter(_waiver(record, waiver).covers, paths)):
            place, covered = waiver.node or "any node", ", ".join(waiver.covers)
            yield f"has a waiver of {place} that does not cover {covered or 'anything'}"
    left = paths - {path for waiver in record.waivers for path in waiver.covers}
    if record.findings and bool(left) is (record.verdict is Verdict.WAIVED):
        yield f"is {record.verdict}, but no waiver covers {len(left)} of its findings"


def _waiver(record: ClauseRecord, waiver: WaiverRecord) -> Waiver:
    return Waiver(
        where=f"the waiver of {waiver.node or 'any node'}",
        clause=record.id,
        node=waiver.node,
        reason=waiver.reason,
        expires=waiver.expires,
    )


def waivers_of(certificate: Certificate) -> tuple[Waiver, ...]:
    """Return the waivers in a certificate.

    Raises:
        SpecError: If one of them cannot be a waiver.
    """
    return tuple(_waiver(record, waiver) for record in certificate.clauses for waiver in record.waivers)


def findings(certificate: Certificate, request: Request) -> Iterator[Reason]:
    """Check that findings name an output stride that was judged, a node of the specification, a choice that exists."""
    strides = request.strides
    networks = [specification(request, request.choices, stride)[1] for stride in strides] if request.variant else []
    decided = names(request.published.family) if request.variant else ()
    known = {node.path for network in networks for node in network} | {"input", "output"} if networks else set()
    for record in certificate.clauses:
        for finding in record.findings:
            if finding.output_stride not in strides:
                yield record.id, f"has a finding at output stride {finding.output_stride}, which was not judged"
            if known and record.level != Level.INTERFACE and finding.path not in known:
                yield record.id, f"has a finding at {finding.path}, which is no node"
            if finding.choice is not None and finding.choice not in decided:
                yield record.id, f"has a finding of {finding.choice}, which is no choice"


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


def structure(certificate: Certificate, request: Request) -> Iterator[Reason]:
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
) -> Iterator[Reason]:
    found = by_clause(aspects(alignment), planned.unstrided)
    for record in certificate.clauses:
        if record.level != Level.STRUCTURE or record.id == _COUNTS or record.verdict in _UNDECIDED:
            continue
        expected = Counter((each.path, each.attribute) for each in found.get(record.id, ()) if not each.equal)
        mine = (finding for finding in record.findings if finding.output_stride == subject.output_stride)
        stated = Counter((finding.path, finding.attribute) for finding in mine)
        for path, attribute in expected - stated:
            yield record.id, f"must have a finding at {path}: {attribute} differs in its graph"
        for path, attribute in stated - expected:
            yield record.id, f"has a finding at {path}, but {attribute} is right in its graph"
