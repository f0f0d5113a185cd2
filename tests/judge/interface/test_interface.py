"""What is wrong at the interface is a finding of just the clause that says so."""

from functools import cache, partial

import pytest

import deeplab_spec
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from tests.support import candidates
from tests.support.candidates import SMALL


@cache
def judged(name: str, part: str | None = None) -> Certificate:
    """Judge the interface of a candidate, or of a part of it, which takes less time."""
    build = partial(getattr(candidates, name), part=part) if part else getattr(candidates, name)
    return deeplab_spec.certify(build, "notebook", choices=SMALL, levels=["interface"], part=part)


def failed(name: str, part: str | None = None) -> set[str]:
    """Return the clauses that are false of a candidate's interface."""
    certificate = judged(name, part)
    decided = certificate.verdict is RunVerdict.CONFORMS
    wrong = {clause.id for clause in certificate.clauses if clause.verdict is Verdict.FAILED}
    assert decided == (not wrong)
    return wrong


def test_a_right_network_has_no_finding() -> None:
    """The counter-test of all the others."""
    assert failed("right") == set()


@pytest.mark.parametrize(
    ("name", "clauses"),
    [
        ("in_a_dict", {"OUTPUT-TENSOR"}),
        ("nothing", {"OUTPUT-TENSOR"}),
        ("small_logits", {"OUTPUT-SHAPE"}),
        ("in_float64", {"OUTPUT-DTYPE"}),
        ("not_finite", {"OUTPUT-FINITE", "VALUES-EVERY-CALL", "DETERMINISM", "BATCH-INDEPENDENCE", "LAYOUTS-ACCEPTED"}),
        ("noisy", {"VALUES-EVERY-CALL", "DETERMINISM", "BATCH-INDEPENDENCE", "LAYOUTS-ACCEPTED"}),
        ("batch_mixed", {"VALUES-EVERY-CALL", "BATCH-INDEPENDENCE"}),
        ("input_changed", {"VALUES-EVERY-CALL", "INPUT-UNCHANGED"}),
        (
            "state_changed",
            {"STATE-UNCHANGED", "DETERMINISM", "BATCH-INDEPENDENCE", "LAYOUTS-ACCEPTED"},
        ),
        ("anything_taken", {"BAD-INPUT-REFUSED"}),
        ("exits", {"SIZES-ACCEPTED", "BATCHES-ACCEPTED"}),
    ],
)
def test_a_fault_fails_its_clause(name: str, clauses: set[str]) -> None:
    """One thing is wrong, with its consequences: added random numbers differ from call to call, and so in a batch."""
    assert failed(name, "aspp") == clauses


def test_sizes_that_are_refused_are_one_finding_that_lists_them() -> None:
    """A person wants to know which sizes, once."""
    assert failed("odd_widths_refused") == {"SIZES-ACCEPTED"}
    clause = next(clause for clause in judged("odd_widths_refused").clauses if clause.id == "SIZES-ACCEPTED")

    assert len(clause.findings) == 1
    assert clause.findings[0].actual == (
        "RuntimeError: odd widths are beyond this model (input 1x3x97x65); likewise 1x3x1x1, 1x3x513x545"
    )
    assert clause.findings[0].choice is None


def test_a_graph_that_cannot_be_read_leaves_all_that_needs_it_undecided() -> None:
    """Its values are judged all the same: this one takes the magnitudes of dark images."""
    certificate = deeplab_spec.certify(candidates.steps, "notebook", choices=SMALL)

    assert certificate.verdict is RunVerdict.DEVIATES
    assert {clause.id for clause in certificate.clauses if clause.verdict is Verdict.FAILED} >= {"VALUES-EVERY-CALL"}
    assert certificate.levels["structure"] is certificate.levels["training"] is Verdict.UNDECIDED
    reasons = {clause.reason for clause in certificate.clauses if clause.level == "structure"}
    assert len(reasons) == 1
    assert reasons.pop().startswith("torch.export refused the module: ")
