"""Decides a clause at one output stride: by its check, and by what the run could have seen.

A clause is passed where its check passes, made every decision that there was to make, and refuses the
faults that were planted for it. Otherwise the run says nothing about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from deeplab_spec.judge.evidence import Check, Evidence
from deeplab_spec.judge.finding import Decision, Finding, Verdict
from deeplab_spec.judge.interface import check as interface
from deeplab_spec.judge.numerics import check as numerics
from deeplab_spec.judge.planted import PlantedFault
from deeplab_spec.judge.structure import check as structure
from deeplab_spec.judge.training import check as training

CHECKS: Final[dict[str, Check]] = {**interface.CHECKS, **structure.CHECKS, **numerics.CHECKS, **training.CHECKS}
"""The check that decides each clause."""

KIN: Final = "SAME-FAMILY"
"""The clause that another network fails, and the only one that is decided of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A decision, and what stands behind it.

    Attributes:
        decision: What was decided.
        required: How many single decisions there were to make.
        planted: How many faults were planted for it.
        killed: How many of them were refused.
    """

    decision: Decision
    required: int
    planted: int = 0
    killed: int = 0


def judged(
    clause: str, evidence: Evidence, standard: str, required: int | None, planted_faults: Sequence[PlantedFault]
) -> Judged:
    """Decide one clause.

    Args:
        clause: Its id.
        evidence: What was observed.
        standard: What the candidate is held against, as the user named it.
        required: How many decisions there are to make; None where nothing of it can be wrong, so that no
            fault can be planted.
        planted_faults: The faults that were planted for it.
    """
    check = check_of(clause, standard)
    decision = check(evidence)
    least = 1 if required is None else required
    if decision.verdict is not Verdict.PASSED:
        return Judged(decision=decision, required=least)
    alive = [fault for fault in planted_faults if not fault.killed(check, evidence)]
    reason = ""
    if decision.decisions < least:
        reason = f"{decision.decisions:,} of {least:,} decisions were made"
    elif alive:
        reason = alive[0].unseen
    elif required is not None and not planted_faults:
        reason = "no fault of it was planted, so nothing shows that this run could have seen one"
    elif required is None and planted_faults:
        reason = "nobody says how many decisions it takes, so some may have been skipped"
    return Judged(
        decision=replace(decision, undecided=reason),
        required=least,
        planted=len(planted_faults),
        killed=len(planted_faults) - len(alive),
    )


def check_of(clause: str, standard: str) -> Check:
    """Return the check of a clause; of another network only one clause is decided."""

    def decide(evidence: Evidence) -> Decision:
        if not evidence.stranger:
            return CHECKS[clause](evidence)
        if clause != KIN:
            return Decision(undecided="this is another network")
        finding = Finding(
            path="input",
            candidate_path=None,
            attribute="network",
            expected=f"a network of the family of {standard}",
            actual=evidence.stranger,
            output_stride=evidence.output_stride,
        )
        return Decision(findings=(finding,), decisions=1)

    return decide
