"""A planted fault, and whether a check refuses it."""

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
        plant: Puts what was observed of it in the place of what was observed of the candidate.
        path: The node at which it must be found; empty for anywhere.
        needs: What would show it, where this run cannot; empty if nobody knows.
    """

    clause: str
    fault: str
    plant: Callable[[Evidence], Evidence]
    path: str = ""
    needs: str = ""

    @property
    def unseen(self) -> str:
        """Say that a run is blind to the fault."""
        reason = f"this run could not have seen {self.fault}: a planted one passed"
        return f"needs {self.needs}: {reason}" if self.needs else reason

    def killed(self, check: Check, evidence: Evidence) -> bool:
        """Tell whether a check refuses the fault, where it was planted.

        Args:
            check: The check of the clause, which passes the candidate.
            evidence: What was observed of the candidate.
        """
        decision = check(self.plant(evidence))
        found = any(self.path in {"", finding.path} for finding in decision.findings)
        return decision.verdict is Verdict.FAILED and found
