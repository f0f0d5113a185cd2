"""Findings, verdicts, and how verdicts add up."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from deeplab_spec.align.differences import Fact


class Verdict(StrEnum):
    """What is decided about a clause, or about a level."""

    PASSED = "passed"
    FAILED = "failed"
    WAIVED = "waived"
    UNDECIDED = "undecided"
    NOT_APPLICABLE = "not applicable"


class RunVerdict(StrEnum):
    """What is decided about a candidate."""

    CONFORMS = "conforms"
    CONFORMS_WITH_WAIVERS = "conforms with waivers"
    DEVIATES = "deviates"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place at which a clause is false.

    Attributes:
        path: The specification's node, or the argument of the interface.
        candidate_path: The candidate's node, if it has one there.
        attribute: What of it is wrong.
        expected: What it must be.
        actual: What it is.
        choice: The choice that explains it, if one does.
        hint: What would explain it.
        output_stride: The output stride at which it was found.
    """

    path: str
    candidate_path: str | None
    attribute: str
    expected: Fact
    actual: Fact
    choice: str | None = None
    hint: str = ""
    output_stride: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a check found out.

    Attributes:
        findings: Where the clause is false.
        decisions: How many single decisions were made.
        undecided: Why the clause could not be decided; empty if it could.
        not_applicable: Why there is nothing to decide; empty if there is.
    """

    findings: tuple[Finding, ...] = ()
    decisions: int = 0
    undecided: str = ""
    not_applicable: str = ""

    @property
    def verdict(self) -> Verdict:
        """What follows: nothing passes that was not decided."""
        if self.findings:
            return Verdict.FAILED
        if self.not_applicable:
            return Verdict.NOT_APPLICABLE
        if self.undecided or not self.decisions:
            return Verdict.UNDECIDED
        return Verdict.PASSED


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of a group: failed if one failed, undecided if one is, waived if one is.

    >>> together([Verdict.PASSED, Verdict.NOT_APPLICABLE]).value
    'passed'
    >>> together([]).value
    'undecided'
    """
    found = set(verdicts)
    for verdict in (Verdict.FAILED, Verdict.UNDECIDED, Verdict.WAIVED, Verdict.PASSED):
        if verdict in found:
            return verdict
    return Verdict.NOT_APPLICABLE if found else Verdict.UNDECIDED


def of_run(verdicts: Iterable[Verdict]) -> RunVerdict:
    """Return the verdict of a run from those of its clauses."""
    match together(verdicts):
        case Verdict.FAILED:
            return RunVerdict.DEVIATES
        case Verdict.WAIVED:
            return RunVerdict.CONFORMS_WITH_WAIVERS
        case Verdict.PASSED:
            return RunVerdict.CONFORMS
        case _:
            return RunVerdict.INCONCLUSIVE
