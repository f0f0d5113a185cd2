"""Decides clauses by their checks, tests each check with planted faults, and concludes with the certificate.

A clause passes if its check passes, if the check made every expected decision, and if the check refuses the faults
that were planted for it. If only the first holds, the clause is undecided.
"""

import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch

from deeplab_spec.align.differences import ABSENT
from deeplab_spec.judge import certificate as documents
from deeplab_spec.judge.certificate import ClauseRecord
from deeplab_spec.judge.evidence import Check, Evidence, PlantedFault
from deeplab_spec.judge.finding import Decision, Finding, Json, Verdict, combined, run_verdict
from deeplab_spec.judge.interface import check as interface
from deeplab_spec.judge.numerics import check as numerics
from deeplab_spec.judge.observe import AtStride
from deeplab_spec.judge.precision.run import device_of, where
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.specification import specification_of
from deeplab_spec.judge.structure import check as structure
from deeplab_spec.judge.structure.observe import first_finding
from deeplab_spec.judge.training import check as training
from deeplab_spec.judge.training.check import choices_seen_in_training
from deeplab_spec.spec.choices import ChoiceValue, SizesAccepted, plain
from deeplab_spec.spec.clauses import Clause, Level
from deeplab_spec.spec.clauses import clause as named
from deeplab_spec.spec.variants import variant

CHECKS: Final[dict[str, Check]] = {**interface.CHECKS, **structure.CHECKS, **numerics.CHECKS, **training.CHECKS}
"""The check that decides each clause."""

BLOCK_COUNTS: Final = "BLOCK-COUNTS"

SAME_FAMILY: Final = "SAME-FAMILY"
"""The clause that a network of another architecture fails; the others are undecided for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision at one output stride, and what supports it.

    Attributes:
        decision: The decision.
        required: The expected number of single decisions.
        planted: The number of faults planted for it.
        killed: The number of them that were refused.
    """

    decision: Decision
    required: int
    planted: int = 0
    killed: int = 0


def decide_clause(clause: Clause, strides: Sequence[AtStride]) -> ClauseRecord:
    """Decide one clause at every output stride, and combine the decisions."""
    decided = [_decided(clause, stride) for stride in strides]
    decisions = [entry.decision for entry in decided]
    verdict = combined(decision.verdict for decision in decisions)
    reasons = [
        decision.undecided or decision.not_applicable or "nothing was decided"
        for decision in decisions
        if decision.verdict is verdict and verdict in {Verdict.UNDECIDED, Verdict.NOT_APPLICABLE}
    ]
    return ClauseRecord(
        id=clause.id,
        level=clause.level.value,
        verdict=verdict,
        decisions=sum(decision.decisions for decision in decisions),
        required=sum(entry.required for entry in decided),
        planted=sum(entry.planted for entry in decided),
        killed=sum(entry.killed for entry in decided),
        reason=next(iter(reasons), ""),
        findings=tuple(
            _explained(finding, stride)
            for stride, decision in zip(strides, decisions, strict=True)
            for finding in decision.findings
        ),
    )


def _decided(clause: Clause, stride: AtStride) -> Decided:
    planted = [fault for fault in stride.planted_faults if fault.clause == clause.id]
    reference = stride.plan.request.reference
    return decide(clause.id, stride.evidence, reference, stride.required.get(clause.id), planted)


def _explained(finding: Finding, stride: AtStride) -> Finding:
    choice, hint = stride.explained.of(finding)
    cause = stride.causes.get((finding.path, finding.candidate_path, finding.attribute), "")
    return finding.model_copy(update={"choice": choice, "hint": hint, "cause": cause})


def decide(
    clause: str, evidence: Evidence, reference: str, required: int | None, planted: Sequence[PlantedFault]
) -> Decided:
    """Decide one clause at one output stride.

    ``required`` is the expected number of decisions; None if nothing in the expected network can violate the clause, so
    that no fault can be planted.
    """
    check = check_of(clause, reference)
    decision = check(evidence)
    least = 1 if required is None else required
    if decision.verdict is not Verdict.PASSED:
        return Decided(decision=decision, required=least)
    accepted = [fault for fault in planted if not fault.killed(check, evidence)]
    reason = ""
    if decision.decisions < least:
        reason = f"{decision.decisions:,} of {least:,} {MADE}{_others(clause, evidence)}"
    elif accepted:
        reason = accepted[0].unseen
    elif required is not None and not planted:
        reason = "no fault was planted for it, so nothing shows that this run could have seen one"
    elif required is None and planted:
        reason = "the expected number of decisions is not defined, so some may have been skipped"
    return Decided(
        decision=replace(decision, undecided=reason),
        required=least,
        planted=len(planted),
        killed=len(planted) - len(accepted),
    )


MADE: Final = "decisions were made"


def _others(clause: str, evidence: Evidence) -> str:
    """Say what the decisions are about that were not made; empty if nothing shows it."""
    if clause in training.CHECKS:
        return ": the others are about parameters without a place in it" if evidence.unmatched else ""
    if clause == BLOCK_COUNTS:
        return ": the others are about blocks whose operations differ"
    aspects = [aspect for found in (evidence.aspects or {}).values() for aspect in found]
    missing = list(dict.fromkeys(aspect.path for aspect in aspects if aspect.actual == ABSENT))
    if not missing:
        return ""
    nodes = f"{len(missing)} missing nodes, first" if len(missing) > 1 else "a missing node,"
    return f": the others are about {nodes} {missing[0]}"


def check_of(clause: str, reference: str) -> Check:
    """Return the check of a clause; for a network of another architecture, the check of SAME-FAMILY only fails."""

    def decide_same_family(evidence: Evidence) -> Decision:
        if evidence.inside and (_of_calls(clause) or clause in training.CHECKS):
            return Decision(not_applicable=evidence.inside)
        if not evidence.other_architecture:
            return CHECKS[clause](evidence)
        if clause != SAME_FAMILY:
            return Decision(undecided="this is another network")
        finding = Finding(
            path="input",
            candidate_path=None,
            attribute="network",
            expected=f"a network of the family of {reference}",
            actual=evidence.other_architecture,
            output_stride=evidence.output_stride,
        )
        return Decision(findings=(finding,), decisions=1)

    return decide_same_family


def _of_calls(clause: str) -> bool:
    """Tell whether a clause is about calls of the candidate itself; in float64, its graph is the same."""
    return clause in interface.CHECKS or clause == "VALUES-FLOAT32" or named(clause).on_request


WHOLE_RUNS: Final = frozenset({"VALUES-END-TO-END", "VALUES-FLOAT32", "VALUES-LOWER-PRECISION-END-TO-END"})
"""Clauses about whole runs: their findings name the node of the first step that differs, or none."""

_LEVELS: Final = ({Level.STRUCTURE, Level.NUMERICS}, {Level.TRAINING})
"""Levels whose findings name nodes; training comes last, for faults that show nowhere else."""


def conclude(
    request: Request, strides: Sequence[AtStride], clauses: Sequence[ClauseRecord], seconds: float
) -> documents.Certificate:
    """Return the certificate of a judgement, which took some seconds."""
    other_architecture = next(
        (each.evidence.other_architecture for each in strides if each.evidence.other_architecture), None
    )
    first = first_divergence(strides, clauses)
    return documents.Certificate(
        target=request.target,
        variant=request.variant,
        against=request.against,
        choices={name: plain(value) for name, value in request.overridden.items()},
        part=request.part,
        found=strides[0].found,
        classes=request.class_count,
        seed=request.seed,
        verdict=run_verdict(clause.verdict for clause in clauses),
        levels={
            level.value: combined(clause.verdict for clause in clauses if clause.level == level.value)
            for level in request.levels
        },
        cases=tuple(case for stride in strides for case in _cases(stride, request)),
        clauses=tuple(clauses),
        nearest=None if other_architecture or request.against else _nearest(request, strides, clauses),
        first_divergence=first,
        first_divergence_reason=no_node(clauses) if not first and any(stride.reading for stride in strides) else "",
        canaries=documents.PlantedTotals(
            planted=sum(clause.planted for clause in clauses), killed=sum(clause.killed for clause in clauses)
        ),
        conditioning=tuple(stride.conditioning for stride in strides if stride.conditioning),
        steps=tuple(step for stride in strides for step in _steps(stride)),
        counts=tuple(counts for stride in strides for counts in _counts(stride)),
        another_network=other_architecture,
        specification=specification_of(request),
        settings=settings_of(request),
        subjects=tuple(stride.subject for stride in strides),
        versions={"torch": torch.__version__, "python": platform.python_version(), **strides[0].versions},
        seconds=round(seconds, 1),
    )


def settings_of(request: Request) -> documents.Settings:
    """Return what a request fixes before the run."""
    found = {name: getattr(request, name) for name in documents.Settings.model_fields}
    return documents.Settings(**{**found, "output_strides": request.strides})


def first_divergence(strides: Sequence[AtStride], clauses: Sequence[ClauseRecord]) -> documents.FirstDivergence | None:
    """Return the first node, in the order of the alignment, that a finding names; None if none does."""
    for stride in strides:
        if stride.reading is None:
            continue
        for levels in _LEVELS:
            findings = [
                finding
                for clause in clauses
                if clause.level in levels and clause.id not in WHOLE_RUNS
                for finding in clause.findings
                if finding.output_stride == stride.plan.output_stride
            ]
            first = first_finding(stride.reading.alignment, findings)
            if first:
                return _divergence(first, stride)
    return None


def _divergence(finding: Finding, stride: AtStride) -> documents.FirstDivergence:
    smallest = stride.smallest and stride.smallest[0] == finding.path
    return documents.FirstDivergence(
        path=finding.path,
        candidate_path=finding.candidate_path,
        output_stride=finding.output_stride,
        attribute=finding.attribute,
        expected=finding.expected,
        actual=finding.actual,
        smallest_input=stride.smallest[1] if stride.smallest and smallest else None,
    )


def no_node(clauses: Sequence[ClauseRecord]) -> str:
    """Return why no node is named, if only whole runs differ; else empty."""
    if not any(clause.id in WHOLE_RUNS and clause.findings for clause in clauses):
        return ""
    return "every node computes what is specified; what runs them together, a compiler or a runtime, does not"


def _steps(stride: AtStride) -> Iterator[documents.StepError]:
    """Return the error of every step that was compared, in the order of the network."""
    order = {node.path: number for number, node in enumerate(stride.plan.network)}
    made = [step for step in stride.evidence.steps if step.error is not None]
    for step in sorted(made, key=lambda step: order.get(step.path, len(order))):
        error = float(f"{step.error:.3g}") if step.error is not None and math.isfinite(step.error) else None
        yield documents.StepError(
            output_stride=stride.plan.output_stride, path=step.path, error=error, allowed=step.allowed
        )


def _counts(stride: AtStride) -> Iterator[documents.Counts]:
    """Return the costs on both sides, and the blocks that cost something else."""
    if stride.evidence.counts is None or stride.image is None:
        return
    blocks = [
        documents.BlockCounts(
            path=block.path,
            parameters=(block.parameters.expected, block.parameters.actual),
            macs=(block.multiply_adds.expected, block.multiply_adds.actual),
        )
        for block in stride.evidence.counts
    ]
    yield documents.Counts(
        output_stride=stride.plan.output_stride,
        size=stride.image,
        parameters=(sum(block.parameters[0] for block in blocks), sum(block.parameters[1] for block in blocks)),
        macs=(sum(block.macs[0] for block in blocks), sum(block.macs[1] for block in blocks)),
        differing=tuple(
            block for block in blocks if block.parameters[0] != block.parameters[1] or block.macs[0] != block.macs[1]
        ),
    )


def _cases(stride: AtStride, request: Request) -> Iterator[documents.Case]:
    dtypes = request.dtypes if Level.NUMERICS in request.levels else ("float32",)
    sizes = sorted({(call.inputs[0][-2], call.inputs[0][-1]) for call in stride.evidence.calls if call.legal})
    for dtype in dtypes:
        yield documents.Case(
            output_stride=stride.plan.output_stride,
            sizes=(*([stride.image] if stride.image else []), *sizes),
            dtype=dtype,
            device=where(dtype, device_of(request.device)),
        )


def _nearest(
    request: Request, strides: Sequence[AtStride], clauses: Sequence[ClauseRecord]
) -> documents.Nearest | None:
    """Merge the choices inferred at each output stride; the stride with the most differences decides first."""
    read = sorted((stride for stride in strides if stride.reading), key=lambda each: -len(each.explained.overrides))
    if not read:
        return None
    name = read[0].explained.variant or request.reference
    choices: dict[str, Json] = {}
    for stride in read:
        if (stride.explained.variant or request.reference) == name:
            choices = {**{key: plain(value) for key, value in stride.explained.overrides.items()}, **choices}
    for stride in read:
        seen = choices_seen_in_training(stride.evidence.trained) if stride.evidence.trained else {}
        for choice, value in seen.items():
            _add(choices, name, choice, value)
    sizes = next((clause for clause in clauses if clause.id == "SIZES-ACCEPTED"), None)
    if sizes and any(finding.choice == "sizes_accepted" for finding in sizes.findings):
        _add(choices, name, "sizes_accepted", SizesAccepted.MULTIPLES)
    return documents.Nearest(variant=name, choices=choices)


def _add(choices: dict[str, Json], name: str, choice: str, value: ChoiceValue) -> None:
    """Add the value of a choice, unless it is that of the variant."""
    if value == getattr(variant(name).choices, choice):
        choices.pop(choice, None)
    else:
        choices[choice] = plain(value)
