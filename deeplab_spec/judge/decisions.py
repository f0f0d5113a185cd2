"""Decides clauses by their checks, and tests each check with planted faults.

A clause passes if its check passes, if the check made every expected decision, and if the check refuses the faults
that were planted for it. If only the first holds, the clause is undecided.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from deeplab_spec.judge.certificate import ClauseRecord
from deeplab_spec.judge.evidence import Check, Evidence, PlantedFault
from deeplab_spec.judge.finding import Decision, Finding, Verdict, combined
from deeplab_spec.judge.interface import check as interface
from deeplab_spec.judge.numerics import check as numerics
from deeplab_spec.judge.observe import AtStride
from deeplab_spec.judge.structure import check as structure
from deeplab_spec.judge.training import check as training
from deeplab_spec.spec.clauses import Clause

CHECKS: Final[dict[str, Check]] = {**interface.CHECKS, **structure.CHECKS, **numerics.CHECKS, **training.CHECKS}
"""The check that decides each clause."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedClause:
    """A clause as it was decided over all output strides.

    Attributes:
        record: Its entry in the certificate.
        planted: The number of faults planted for it.
        killed: The number of them that were refused.
    """

    record: ClauseRecord
    planted: int
    killed: int


def decide_clause(clause: Clause, strides: Sequence[AtStride]) -> DecidedClause:
    """Decide one clause at every output stride, and combine the decisions."""
    decided = [_decided(clause, stride) for stride in strides]
    decisions = [entry.decision for entry in decided]
    verdict = combined(decision.verdict for decision in decisions)
    reasons = [
        decision.undecided or decision.not_applicable or "nothing was decided"
        for decision in decisions
        if decision.verdict is verdict and verdict in {Verdict.UNDECIDED, Verdict.NOT_APPLICABLE}
    ]
    record = ClauseRecord(
        id=clause.id,
        level=clause.level.value,
        verdict=verdict,
        decisions=sum(decision.decisions for decision in decisions),
        required=sum(entry.required for entry in decided),
        reason=next(iter(reasons), ""),
        findings=tuple(
            _explained(finding, stride)
            for stride, decision in zip(strides, decisions, strict=True)
            for finding in decision.findings
        ),
    )
    planted, killed = sum(entry.planted for entry in decided), sum(entry.killed for entry in decided)
    return DecidedClause(record=record, planted=planted, killed=killed)


def _decided(clause: Clause, stride: AtStride) -> Decided:
    planted = [fault for fault in stride.planted_faults if fault.clause == clause.id]
    reference = stride.plan.request.reference
    return decide(clause.id, stride.evidence, reference, stride.required.get(clause.id), planted)


def _explained(finding: Finding, stride: AtStride) -> Finding:
    choice, hint = stride.explained.of(finding)
    return finding.model_copy(update={"choice": choice, "hint": hint})


def decide(
    clause: str, evidence: Evidence, reference: str, required: int | None, planted: Sequence[PlantedFault]
) -> Decided:
    """Decide one clause at one output stride.

    Args:
        clause: Id of the clause.
        evidence: What was observed.
        reference: Name of the network that the candidate is judged against.
        required: The expected number of decisions; None if nothing in the expected network can violate the clause,
            so that no fault can be planted.
        planted: The faults that were planted for it.
    """
    check = check_of(clause, reference)
    decision = check(evidence)
    least = 1 if required is None else required
    if decision.verdict is not Verdict.PASSED:
        return Decided(decision=decision, required=least)
    accepted = [fault for fault in planted if not fault.killed(check, evidence)]
    reason = ""
    if decision.decisions < least:
        reason = f"{decision.decisions:,} of {least:,} decisions were made"
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


def check_of(clause: str, reference: str) -> Check:
    """Return the check of a clause; for a network of another architecture, the check of SAME-FAMILY only fails."""

    def decide_same_family(evidence: Evidence) -> Decision:
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
