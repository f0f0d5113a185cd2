"""A broken judge accepts neither a wrong network nor a right one."""

from dataclasses import dataclass

import pytest
from torch import nn

import deeplab_spec
from deeplab_spec.judge import observe
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.judge.numerics import minimize
from deeplab_spec.judge.plan import Plan
from deeplab_spec.judge.structure.explanation import Explained
from deeplab_spec.judge.structure.observe import Reading
from deeplab_spec.judge.text import text
from tests.support.sabotage import PART, SABOTAGE, WIDTH, Sabotage, right


@dataclass(kw_only=True)
class Unexplained:
    """Explains nothing, and leaves the alignment as it is."""

    plan: Plan
    reading: Reading

    def explained(self) -> Explained:
        """Return no explanation."""
        return Explained()


@pytest.fixture(autouse=True)
def _only_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the search for the smallest input and for what explains a finding: neither decides anything."""
    monkeypatch.setattr(minimize, "MOST_TRIALS", 2)
    monkeypatch.setattr(observe, "Explanation", Unexplained)


def judged(module: nn.Module, level: str) -> Certificate:
    """Judge a decoder at one level."""
    return deeplab_spec.certify(module, "tf-release", choices={"width": WIDTH}, part=PART, levels=[level])


LEVELS = sorted({sabotage.level for sabotage in SABOTAGE})
FAULTS = sorted({(sabotage.level, sabotage.hides) for sabotage in SABOTAGE}, key=str)


@pytest.mark.parametrize("level", LEVELS)
def test_an_intact_judge_accepts_a_right_network(level: str) -> None:
    """The counter-test of the others; every planted fault was refused."""
    certificate = judged(right(), level)

    assert certificate.verdict is RunVerdict.CONFORMS
    assert certificate.canaries.killed == certificate.canaries.planted > 0
    assert all(clause.decisions == clause.required for clause in certificate.clauses)
    assert f" {certificate.canaries.planted} planted faults refused." in text(certificate)


@pytest.mark.parametrize(("level", "hides"), FAULTS, ids=lambda item: getattr(item, "__name__", item))
def test_an_intact_judge_refuses_a_wrong_network(level: str, hides: object) -> None:
    """Each candidate deviates at the level that is broken in the tests below."""
    assert judged(hides(), level).verdict is RunVerdict.DEVIATES  # type: ignore[operator]


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=str)
def test_a_broken_judge_accepts_nothing(sabotage: Sabotage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted faults and counted decisions show it, for a wrong candidate and for a right one."""
    wrong, fine = sabotage.hides(), right()
    sabotage.apply(monkeypatch)

    assert judged(wrong, sabotage.level).verdict is not RunVerdict.CONFORMS
    certificate = judged(fine, sabotage.level)

    assert certificate.verdict is RunVerdict.INCONCLUSIVE
    undecided = [clause for clause in certificate.clauses if clause.verdict is Verdict.UNDECIDED]
    assert all(clause.reason for clause in undecided)
