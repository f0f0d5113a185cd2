"""Deviations, findings, verdicts, and how verdicts combine."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from deeplab_spec.align.differences import Fact
from deeplab_spec.views.document import Sparse

Json = str | int | float | bool | list[int] | list[float] | list[str] | None
"""A value in a document."""


class Verdict(StrEnum):
    """The verdict of a clause or of a level."""

    PASSED = "passed"
    FAILED = "failed"
    WAIVED = "waived"
    UNDECIDED = "undecided"
    NOT_APPLICABLE = "not applicable"


class RunVerdict(StrEnum):
    """The verdict of a run."""

    CONFORMS = "conforms"
    CONFORMS_WITH_WAIVERS = "conforms with waivers"
    DEVIATES = "deviates"
    INCONCLUSIVE = "inconclusive"


def as_json(fact: Fact) -> Json:
    """Return a fact as JSON data: a tuple becomes a list.

    >>> as_json((6, 12, 18))
    [6, 12, 18]
    """
    if isinstance(fact, tuple):
        texts = [value for value in fact if isinstance(value, str)]
        return texts or [value for value in fact if isinstance(value, int)]
    return fact


class Finding(Sparse):
    """One place at which a clause is false."""

    left_out: ClassVar = ("cause",)

    path: str = Field(description="The specification's node, or 'input' or 'output' at the interface.")
    candidate_path: str | None = Field(description="The candidate's node, if it has one there.")
    attribute: str
    choice: str | None = Field(default=None, description="The choice that explains the finding, if one does.")
    expected: Json
    actual: Json
    hint: str = ""
    cause: str = Field(default="", description="What the finding follows from, in words; empty if it stands alone.")
    output_stride: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The result of a check.

    Attributes:
        findings: Where the clause is false.
        decisions: The number of single decisions that were made.
        undecided: Why the clause could not be decided; empty if it could.
        not_applicable: Why there is nothing to decide; empty if there is.
    """

    findings: tuple[Finding, ...] = ()
    decisions: int = 0
    undecided: str = ""
    not_applicable: str = ""

    @property
    def verdict(self) -> Verdict:
        """The verdict that follows; a clause without a decision never passes."""
        if self.findings:
            return Verdict.FAILED
        if self.not_applicable:
            return Verdict.NOT_APPLICABLE
        if self.undecided or not self.decisions:
            return Verdict.UNDECIDED
        return Verdict.PASSED


def combined(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of a group: failed if one failed, else undecided if one is, else waived if one is.

    >>> combined([Verdict.PASSED, Verdict.NOT_APPLICABLE]).value
    'passed'
    >>> combined([]).value
    'undecided'
    """
    found = set(verdicts)
    for verdict in (Verdict.FAILED, Verdict.UNDECIDED, Verdict.WAIVED, Verdict.PASSED):
        if verdict in found:
            return verdict
    return Verdict.NOT_APPLICABLE if found else Verdict.UNDECIDED


def run_verdict(verdicts: Iterable[Verdict]) -> RunVerdict:
    """Return the verdict of a run from those of its clauses."""
    match combined(verdicts):
        case Verdict.FAILED:
            return RunVerdict.DEVIATES
        case Verdict.WAIVED:
            return RunVerdict.CONFORMS_WITH_WAIVERS
        case Verdict.PASSED:
            return RunVerdict.CONFORMS
        case _:
            return RunVerdict.INCONCLUSIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """The error of one value or tensor of the candidate.

    Attributes:
        path: The specification's node.
        candidate_path: The candidate's node or tensor.
        error: Root mean square of the difference, over that of the expected value; in a lower precision, how many
            times the reference's error it is; None if nothing could be compared.
        allowed: The largest error that is not a finding.
        origin: The first node that differs in the direction in which an error spreads; empty if it is not searched for.
        role: ``weight``, ``bias``, ``running_mean`` or ``running_var``; empty for the value of a node.
        dtype: The lower precision; empty for float64 and float32.
        covered: Whether the values that arrived could have shown a fault of this operation.
        reason: Which values were missing, or why nothing could be compared.
    """

    path: str
    candidate_path: str | None
    error: float | None
    allowed: float
    origin: str = ""
    role: str = ""
    dtype: str = ""
    covered: bool = True
    reason: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the two values are equal but for rounding."""
        return self.error is not None and self.error <= self.allowed
