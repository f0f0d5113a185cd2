"""After a long judgement that failed, the level that failed first is suggested for the next rounds."""

from dataclasses import dataclass

import pytest

from deeplab_spec.cli.certify import quick_round
from deeplab_spec.judge.certificate import Certificate
from tests.support.certificates import certificate


@dataclass(frozen=True)
class Case:
    """A certificate, and the level that is suggested; empty for none."""

    given: Certificate
    level: str


def long(given: Certificate, seconds: float = 60.0) -> Certificate:
    """Return a certificate of a long judgement."""
    return given.model_copy(update={"seconds": seconds})


@pytest.mark.parametrize(
    "case",
    [
        Case(long(certificate({"ASPP-RATES": ["aspp.atrous1"], "BN-MOMENTUM": ["a"]})), "structure"),
        Case(long(certificate({"BN-MOMENTUM": ["a"]})), "training"),
        Case(long(certificate({"ASPP-RATES": ["aspp.atrous1"]}), seconds=2.0), ""),
        Case(long(certificate({"ASPP-RATES": ["aspp.atrous1"]}, only=["ASPP-RATES", "BN-EPS"])), ""),
        Case(long(certificate()), ""),
    ],
    ids=["the first that failed", "a later one", "quick already", "one level already", "nothing failed"],
)
def test_the_level_that_failed_first_is_suggested(case: Case) -> None:
    """Only where the round was long and had other levels."""
    line = quick_round(case.given)

    assert line.startswith(f"for quick rounds while you change it: --level {case.level};") if case.level else line == ""
