"""A fault that the judge plants in its own evidence: if a check does not refuse it, the clause decides nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from deeplab_spec.judge.evidence import Check, Evidence
from deeplab_spec.judge.finding import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedFault:
    """A planted fault.

    Attributes:
        clause: Id of the clause that must refuse it.
        fault: What is wrong, in words.
        plant: Replaces the evidence about the candidate by evidence with the fault.
        path: The node that a finding must name; empty for any.
        needs: What would show the fault if this run does not; empty if unknown.
    """

    clause: str
    fault: str
    plant: Callable[[Evidence], Evidence]
    path: str = ""
    needs: str = ""

    @property
    def unseen(self) -> str:
        """Why a clause is undecided if its check does not refuse the fault."""
        reason = f"this run could not have seen {self.fault}: a planted one passed"
        return f"needs {self.needs}: {reason}" if self.needs else reason

    def killed(self, check: Check, evidence: Evidence) -> bool:
        """Whether a check refuses the fault, at the node where it was planted.

        Args:
            check: The check of the clause; it passes the candidate.
            evidence: The evidence about the candidate.
        """
        decision = check(self.plant(evidence))
        named = any(self.path in {"", finding.path} for finding in decision.findings)
        return decision.verdict is Verdict.FAILED and named
