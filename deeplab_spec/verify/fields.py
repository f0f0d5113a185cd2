"""Checks the fields of a certificate beside its clauses: each must follow from the others or from the specification."""

import re
from collections.abc import Iterator
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import Final

from deeplab_spec.align.counts import node_counts
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.folding import folded
from deeplab_spec.judge.certificate import Certificate, ClauseRecord, Subject
from deeplab_spec.judge.expected import part_of, plan_of
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.plan import specification
from deeplab_spec.judge.request import Request
from deeplab_spec.precision import RATIO_LIMIT, TF32
from deeplab_spec.spec.choices import plain
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.variants import REFERENCE
from deeplab_spec.verify.clauses import choices_of, waivers_of
from deeplab_spec.verify.document import Reason

FILES: Final = (".pt2", ".onnx")
_WHOLE_RUNS: Final = {"VALUES-END-TO-END", "VALUES-FLOAT32", "VALUES-LOWER-PRECISION-END-TO-END"}
_STEPS: Final = {"VALUES-BACKBONE", "VALUES-ASPP", "VALUES-DECODER"}
_DECIDED: Final = {Verdict.PASSED, Verdict.FAILED, Verdict.WAIVED}
_SAME_FAMILY: Final = "SAME-FAMILY"
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_facts: Final = attrgetter("output_stride", "path", "candidate_path", "attribute", "expected", "actual")
"""What a finding and the first divergence have in common."""


def settings(certificate: Certificate, request: Request) -> Iterator[Reason]:
    """Check what was fixed before the run."""
    chosen = {name: plain(value) for name, value in request.overridden.items()}
    if certificate.choices != chosen:
        yield "choices", f"must be {chosen}, as fixed before the run"
    if set(certificate.levels) != set(certificate.settings.levels):
        yield "levels", f"must be {', '.join(certificate.settings.levels)}"
    if certificate.settings.shared_choices and not certificate.target.startswith(REFERENCE):
        yield "settings.shared_choices", "must be false: only a reference has choices"
    if certificate.settings.output_strides != request.strides:
        yield "settings.output_strides", "must name the output strides"


def subjects(certificate: Certificate, request: Request) -> Iterator[Reason]:
    """Check that there is one subject for every output stride, with digests, and that only a file fixes sizes."""
    stated = tuple(subject.output_stride for subject in certificate.subjects)
    if stated != request.strides:
        yield "subjects", f"must be judged at output strides {request.strides}, not {stated}"
    file = Path(certificate.target).suffix.lower() in FILES and not certificate.settings.existing
    if file is not bool(certificate.file):
        yield "file", "a file, and only a file, has the digest of a file"
    if certificate.found and certificate.found.part != certificate.part:
        yield "found.part", f"must be {certificate.part}, which was judged"
    for number, subject in enumerate(certificate.subjects):
        where = f"subjects.{number}"
        if not (file or certificate.found) and (subject.sides or subject.batch):
            yield where, "only a file fixes the sizes of its inputs"
        if subject.image and subject.whole_runs:
            yield f"{where}.whole_runs", "must be false: its graph was compared"
        if subject.image and not subject.graph:
            yield f"{where}.graph", "must be the digest of the graph that was compared"
        if not file and subject.calls and Level.INTERFACE in request.levels:
            yield from _calls(where, certificate, subject)
    digests = [certificate.file]
    for subject in certificate.subjects:
        digests += [subject.graph, subject.weights or "nothing"]
    found = [each for each in digests if each and not _DIGEST.fullmatch(each)]
    yield from (("subjects", f"{each} is no SHA-256") for each in found)


def _calls(where: str, certificate: Certificate, subject: Subject) -> Iterator[Reason]:
    """A module that passed was called after many calls, as a copy, and in float64."""
    passed = any(
        clause.id == "VALUES-EVERY-CALL" and clause.verdict is Verdict.PASSED for clause in certificate.clauses
    )
    if passed and subject.calls and not (subject.calls[0] > 1 and subject.calls[1]):
        yield f"{where}.calls", "a module is called after many calls, as a copy, and in float64"


def cases(certificate: Certificate, request: Request) -> Iterator[Reason]:
    """Check that the configurations are those that were requested, with the sizes that the plan has."""
    dtypes = request.dtypes if Level.NUMERICS in request.levels else ("float32",)
    expected = [
        (subject.output_stride, _sizes(request, subject), dtype, _device(request.device, dtype))
        for subject, dtype in product(certificate.subjects, dtypes)
    ]
    for number, (left, case) in enumerate(zip(expected, certificate.cases, strict=False)):
        stride, sizes, dtype, device = left
        if (stride, sizes or case.sizes, dtype, device) != (case.output_stride, case.sizes, case.dtype, case.device):
            yield f"cases.{number}", f"must be {left}, as requested"
    if len(expected) != len(certificate.cases):
        yield "cases", f"must be {len(expected)}, as requested, not {len(certificate.cases)}"


def _device(device: str, dtype: str) -> str:
    return f"{device} (emulated)" if dtype == TF32.name and device != "cuda" else device


def _sizes(request: Request, subject: Subject) -> tuple[tuple[int, int], ...] | None:
    """Return the sizes of the images at one output stride; None if only the run knows them."""
    if request.variant is None or not (subject.image and subject.calls):
        return None
    planned = plan_of(request, subject)
    first = planned.network.inputs[0].path
    return (subject.image, *sorted({sizes[first] for sizes in planned.sizes}))


def divergence(certificate: Certificate) -> Iterator[Reason]:
    """Check that the first node that differs is that of a finding, and is named if there is one."""
    found = [
        _facts(finding)
        for clause in certificate.clauses
        if clause.level != Level.INTERFACE and clause.id not in _WHOLE_RUNS
        for finding in clause.findings
    ]
    named = certificate.first_divergence and _facts(certificate.first_divergence)
    if named and named not in found:
        yield "first_divergence", "must be one of the findings"
    read = {subject.output_stride for subject in certificate.subjects if subject.image}
    if not named and any(stride in read for stride, *_ in found):
        yield "first_divergence", "must name a node: a clause has a finding at one"
    whole = any(clause.findings for clause in certificate.clauses if clause.id in _WHOLE_RUNS)
    if certificate.first_divergence_reason and (named or not whole):
        yield "first_divergence_reason", "must be empty: no whole run differs without a node"


def nearest(certificate: Certificate, request: Request) -> Iterator[Reason]:
    """Check the nearest network: that of a certificate without findings is the specification."""
    near = certificate.nearest
    if near is None:
        return
    try:
        choices = choices_of(near)
    except SpecError as error:
        yield "nearest", str(error)
        return
    clean = not any(clause.findings for clause in certificate.clauses) and all(s.image for s in certificate.subjects)
    if (
        clean
        and request.variant
        and any(
            specification(request, choices, stride)[1].nodes != specification(request, request.choices, stride)[1].nodes
            for stride in request.strides
        )
    ):
        yield "nearest", "must be the specification: nothing differs from it"


def other_network(certificate: Certificate) -> Iterator[Reason]:
    """Check that another network is one by the clause that says so."""
    family = _clause(certificate, _SAME_FAMILY)
    stated = {finding.actual for finding in family.findings} if family else set()
    if family and stated != ({certificate.another_network} if certificate.another_network else set()):
        yield "another_network", f"must be what {_SAME_FAMILY} found"
    if certificate.another_network and certificate.nearest:
        yield "nearest", "must be null for another network"


def totals(certificate: Certificate) -> Iterator[Reason]:
    """Check the number of planted faults."""
    planted = sum(clause.planted for clause in certificate.clauses)
    killed = sum(clause.killed for clause in certificate.clauses)
    stated = certificate.canaries
    if (stated.planted, stated.killed) != (planted, killed):
        yield "canaries", f"must be {killed} of {planted} by the clauses"


def costs(certificate: Certificate, request: Request) -> Iterator[Reason]:
    """Check the costs: expected ones follow from the specification, and differing blocks from BLOCK-COUNTS."""
    decided = _clause(certificate, "BLOCK-COUNTS")
    stated = [counts.output_stride for counts in certificate.counts]
    if (
        decided
        and decided.verdict in _DECIDED
        and stated != [subject.output_stride for subject in certificate.subjects]
    ):
        yield "counts", "must be there for every output stride: BLOCK-COUNTS is decided"
    read = {subject.output_stride: subject for subject in certificate.subjects}
    for number, counts in enumerate(certificate.counts):
        where = f"counts.{number}"
        subject = read.get(counts.output_stride)
        if subject is None or (subject.image or counts.size) != counts.size:
            yield where, "must be those of a size at which it was read"
        elif request.variant and subject.image:
            expected = _expected_costs(request, subject)
            if expected != (counts.parameters[0], counts.macs[0]):
                yield where, f"must expect {expected} by the specification"
        if any(
            sum(_change(getattr(block, name)) for block in counts.differing) != _change(getattr(counts, name))
            for name in ("parameters", "macs")
        ):
            yield f"{where}.differing", "must add up to the difference of the totals"
        if counts.differing and not any(clause.findings for clause in certificate.clauses) and decided:
            yield f"{where}.differing", "must be empty: nothing was found"


def _change(pair: tuple[int, int]) -> int:
    return pair[1] - pair[0]


def _expected_costs(request: Request, subject: Subject) -> tuple[int, int]:
    """Return parameters and multiply-adds of the expected network in the form in which it was compared."""
    planned = plan_of(request, subject)
    expected: Shaped = planned.expected(subject.image or (1, 1))
    network = folded(expected.network, None if subject.folded else subject.norms)
    pairs = [pair for _, pair in node_counts(expected.with_network(network))]
    return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)


def conditioning(certificate: Certificate) -> Iterator[Reason]:
    """Check that errors are within the limits of what passed."""
    passed = {clause.id for clause in certificate.clauses if clause.verdict is Verdict.PASSED}
    stated = [each.output_stride for each in certificate.conditioning]
    if passed & _STEPS and stated != [subject.output_stride for subject in certificate.subjects]:
        yield "conditioning", "must be there for every output stride: values were compared"
    for number, each in enumerate(certificate.conditioning):
        where = f"conditioning.{number}"
        if not 0 <= each.covered <= each.operations:
            yield where, f"cannot cover {each.covered} of {each.operations} operations"
        if "VALUES-FLOAT32" in passed and each.float32_ratio is not None and each.float32_ratio > RATIO_LIMIT:
            yield where, f"VALUES-FLOAT32 passes up to a ratio of {RATIO_LIMIT}"


def steps(certificate: Certificate) -> Iterator[Reason]:
    """Check that there is an error for every decision about a step, within its limit where the clause passed."""
    for clause in certificate.clauses:
        if clause.id not in _STEPS or clause.verdict not in _DECIDED:
            continue
        part = clause.id.removeprefix("VALUES-")
        mine = [step for step in certificate.steps if part_of(step.path) == part]
        if len(mine) != clause.decisions:
            yield "steps", f"must be {clause.decisions} of {clause.id}, not {len(mine)}"
        over = next((step for step in mine if step.error is None or not step.error <= step.allowed), None)
        if over and clause.verdict is Verdict.PASSED:
            yield clause.id, f"passed, but the error at {over.path} is over its limit"
        if not over and clause.verdict is not Verdict.PASSED:
            yield clause.id, f"is {clause.verdict}, but every error is within its limit"


def waivers(certificate: Certificate) -> Iterator[Reason]:
    """Check that waivers could be given, and had not expired on the day of the run."""
    found = waivers_of(certificate)
    if found and certificate.today is None:
        yield "today", "must be the day on which the waivers were checked"
    for waiver in found:
        if certificate.today and waiver.expires < certificate.today:
            yield waiver.clause, f"has a waiver that expired on {waiver.expires}"
    if certificate.waivers_accepted and certificate.today is None:
        yield "waivers_accepted", "must be false: there were no waivers"


def _clause(certificate: Certificate, name: str) -> ClauseRecord | None:
    return next((clause for clause in certificate.clauses if clause.id == name), None)
