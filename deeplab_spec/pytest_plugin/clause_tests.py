"""Clauses as pytest tests: one certificate per output stride, one test per clause.

A passed clause passes. A failed clause fails with its sentence and its findings, an undecided clause fails with
the reason. A clause that does not apply is skipped, and a waived clause is an expected failure, each with its reason.
The ids are ``deeplab_spec/notebook@16::ASPP-RATES``; the tests belong to no file.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, TypeVar

import pytest

from deeplab_spec.errors import DeepLabSpecError
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.text import clause_text
from deeplab_spec.judge.waivers import Waivers
from deeplab_spec.spec.clauses import Clause

DECIDED: Final = frozenset({Verdict.PASSED, Verdict.FAILED, Verdict.WAIVED})
"""The verdicts of clauses that were decided."""

VERDICT: Final = "deeplab_spec_verdict"
"""Name of the report property that holds the verdict of the clause."""
RECORD: Final = "deeplab_spec_clause"
"""Name of the report property that holds the record of the clause, as JSON."""

Case = TypeVar("Case")
"""What there is one certificate of: an output stride, None for a file's own; or a target and an output stride."""


class Judgements(Generic[Case]):
    """The certificates of a run, one per case, each made at its first use.

    Attributes:
        waivers: The accepted findings; None if there are none.
    """

    def __init__(self, judge: Callable[[Case], Certificate], waivers: Waivers | None = None) -> None:
        self.waivers = waivers
        self._judge = judge
        self._results: dict[Case, Certificate | DeepLabSpecError] = {}

    def at(self, case: Case) -> Certificate:
        """Return the certificate of a case, with waivers applied.

        Raises:
            DeepLabSpecError: If the target cannot be judged; repeated calls raise the same error.
        """
        if case not in self._results:
            try:
                self._results[case] = self._judge(case)
            except DeepLabSpecError as error:
                self._results[case] = error
        result = self._results[case]
        if isinstance(result, DeepLabSpecError):
            raise result
        return result if self.waivers is None else self.waivers.applied(result)

    def certificate(self, case: Case) -> Certificate:
        """Return the certificate, or fail the current test with the reason in one line."""
        try:
            return self.at(case)
        except DeepLabSpecError as error:
            pytest.fail(str(error), pytrace=False)

    def check_waivers(self, cases: Sequence[Case]) -> None:
        """Fail the current test if a waiver covers no finding of any case."""
        certificates = [self.certificate(case) for case in cases]
        try:
            if self.waivers is not None:
                self.waivers.check_used(certificates)
        except DeepLabSpecError as error:
            pytest.fail(str(error), pytrace=False)


def conclude(certificate: Certificate, clause: str) -> None:
    """End the current test with the verdict of a clause."""
    __tracebackhide__ = True
    record = next((record for record in certificate.clauses if record.id == clause), None)
    if record is None:
        pytest.fail(f"{clause} undecided: the certificate of {certificate.target} does not contain it", pytrace=False)
    match record.verdict:
        case Verdict.PASSED:
            return
        case Verdict.NOT_APPLICABLE:
            pytest.skip(f"{clause} not applicable: {record.reason}")
        case Verdict.WAIVED:
            reasons = [f"{waiver.reason} (until {waiver.expires})" for waiver in record.waivers]
            pytest.xfail("; ".join(dict.fromkeys(reasons)))
    pytest.fail(clause_text(certificate, record), pytrace=False)


class AtOutputStride(pytest.Collector):
    """The clauses of a network at one output stride."""

    judgements: Judgements[int | None]
    clauses: Sequence[Clause]
    output_stride: int | None

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per clause; nothing is judged yet."""
        for clause in self.clauses:
            yield ClauseItem.of(self, clause)

    def setup(self) -> None:
        """Judge before the first item runs, or fail with the reason in one line."""
        self.judgements.certificate(self.output_stride)

    @property
    def certificate(self) -> Certificate:
        """The certificate at this output stride."""
        return self.judgements.certificate(self.output_stride)


class ClauseItem(pytest.Item):
    """One clause at one output stride."""

    clause: Clause
    at: AtOutputStride

    @classmethod
    def of(cls, parent: AtOutputStride, clause: Clause) -> "ClauseItem":
        """Return the item of a clause."""
        item: ClauseItem = cls.from_parent(parent, name=clause.id, nodeid=f"{parent.nodeid}::{clause.id}")
        item.clause = clause
        item.at = parent
        item.extra_keyword_matches.add(clause.level.value)
        return item

    def runtest(self) -> None:
        """End with the verdict of the clause; its record becomes a property of the report."""
        certificate = self.at.certificate
        for record in certificate.clauses:
            if record.id == self.clause.id:
                self.user_properties += [(VERDICT, record.verdict.value), (RECORD, record.model_dump_json())]
        conclude(certificate, self.clause.id)

    def reportinfo(self) -> tuple[str, int | None, str]:
        """Return the location and headline of the report."""
        return str(self.path), None, self.nodeid


class Waived(pytest.Collector):
    """The waivers of a run, compared with the findings at all output strides."""

    judgements: Judgements[int | None]
    output_strides: Sequence[int | None]

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item."""
        item: WaiversItem = WaiversItem.from_parent(self, name="WAIVERS", nodeid=f"{self.nodeid}::WAIVERS")
        item.waived = self
        yield item


class WaiversItem(pytest.Item):
    """The test that every waiver covers a finding at some output stride."""

    waived: Waived

    def runtest(self) -> None:
        """Fail if a waiver covers no finding."""
        self.waived.judgements.check_waivers(self.waived.output_strides)

    def reportinfo(self) -> tuple[str, int | None, str]:
        """Return the location and headline of the report."""
        return str(self.path), None, self.nodeid
