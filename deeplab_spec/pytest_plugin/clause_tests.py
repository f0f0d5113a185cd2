"""Clauses as tests of pytest: one judgement per output stride, and how each clause ends its own test.

A passed clause passes. A failed one fails with its sentence and its findings; so does an undecided one,
with the reason: it is no pass. What does not apply is skipped, and what is waived is an expected failure,
each with its reason.
"""

from collections.abc import Callable, Sequence
from typing import Final

import pytest

from deeplab_spec.errors import DeepLabSpecError
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.text import clause_text
from deeplab_spec.judge.waivers import Waivers

DECIDED: Final = frozenset({Verdict.PASSED, Verdict.FAILED, Verdict.WAIVED})
"""The verdicts that something was looked at for."""

Judge = Callable[[int | None], Certificate]
"""Judges at one output stride; None for what a file says of itself."""


class Judgements:
    """What is judged, once at each output stride, when it is first asked for.

    Attributes:
        waivers: What may be false; None for nothing.
    """

    def __init__(self, judge: Judge, waivers: Waivers | None = None) -> None:
        self.waivers = waivers
        self._judge = judge
        self._known: dict[int | None, Certificate | DeepLabSpecError] = {}

    def at(self, output_stride: int | None) -> Certificate:
        """Return the certificate at an output stride, as waivers leave it.

        Raises:
            DeepLabSpecError: If nothing can be judged there; the same error again when asked again.
        """
        if output_stride not in self._known:
            try:
                self._known[output_stride] = self._judge(output_stride)
            except DeepLabSpecError as error:
                self._known[output_stride] = error
        known = self._known[output_stride]
        if isinstance(known, DeepLabSpecError):
            raise known
        return known if self.waivers is None else self.waivers.applied(known)

    def certificate(self, output_stride: int | None) -> Certificate:
        """Return the certificate, or end the test with one line that says why there is none."""
        try:
            return self.at(output_stride)
        except DeepLabSpecError as error:
            pytest.fail(str(error), pytrace=False)

    def check_waivers(self, output_strides: Sequence[int | None]) -> None:
        """Fail the test that runs if a waiver covers nothing at any output stride."""
        certificates = [self.certificate(output_stride) for output_stride in output_strides]
        try:
            if self.waivers is not None:
                self.waivers.check_used(certificates)
        except DeepLabSpecError as error:
            pytest.fail(str(error), pytrace=False)


def conclude(certificate: Certificate, clause: str) -> None:
    """End the test that runs as a clause was decided.

    Args:
        certificate: What was decided.
        clause: Id of the clause.
    """
    __tracebackhide__ = True
    record = next((record for record in certificate.clauses if record.id == clause), None)
    if record is None:
        pytest.fail(f"{clause} undecided: the certificate of {certificate.target} says nothing of it", pytrace=False)
    match record.verdict:
        case Verdict.PASSED:
            return
        case Verdict.NOT_APPLICABLE:
            pytest.skip(f"{clause} not applicable: {record.reason}")
        case Verdict.WAIVED:
            reasons = [f"{waiver.reason} (until {waiver.expires})" for waiver in record.waivers]
            pytest.xfail("; ".join(dict.fromkeys(reasons)))
    pytest.fail(clause_text(certificate, record), pytrace=False)
