"""How verdicts combine: failed outweighs undecided, and undecided outweighs passed."""

from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.judge.finding import Decision, Finding, RunVerdict, Verdict, combined, run_verdict

FINDING = Finding(path="aspp", candidate_path=None, attribute="rate", expected=6, actual=12, output_stride=16)
verdicts = st.lists(st.sampled_from(Verdict))
decisions = st.builds(
    Decision,
    findings=st.sampled_from([(), (FINDING,)]),
    decisions=st.integers(0, 3),
    undecided=st.sampled_from(["", "it crashed"]),
    not_applicable=st.sampled_from(["", "inference only"]),
)


@given(found=verdicts)
def test_a_group_is_as_good_as_its_worst(found: list[Verdict]) -> None:
    """Failed, undecided, waived, passed, in this order; nothing at all is undecided."""
    order = (Verdict.FAILED, Verdict.UNDECIDED, Verdict.WAIVED, Verdict.PASSED)
    worst = next((verdict for verdict in order if verdict in found), None)

    assert combined(found) is (worst or (Verdict.NOT_APPLICABLE if found else Verdict.UNDECIDED))


@given(found=verdicts, more=verdicts)
def test_groups_of_groups_are_groups(found: list[Verdict], more: list[Verdict]) -> None:
    """Levels first and then the run, or clauses at once: the same verdict, where there is something in each."""
    if found and more:
        assert combined([combined(found), combined(more)]) is combined([*found, *more])


@given(found=verdicts)
def test_a_run_conforms_only_if_something_passed_and_nothing_else_happened(found: list[Verdict]) -> None:
    """A failure makes the run deviate; without one, an undecided clause leaves it inconclusive; waivers are named."""
    verdict = run_verdict(found)

    assert (verdict is RunVerdict.DEVIATES) == (Verdict.FAILED in found)
    undisputed = not {Verdict.FAILED, Verdict.UNDECIDED} & set(found)
    conforms = Verdict.PASSED in found and undisputed and Verdict.WAIVED not in found
    assert (verdict is RunVerdict.CONFORMS) == conforms
    assert (verdict is RunVerdict.CONFORMS_WITH_WAIVERS) == (Verdict.WAIVED in found and undisputed)


@given(decision=decisions)
def test_a_decision_without_decisions_does_not_pass(decision: Decision) -> None:
    """A finding fails; a pass needs a decision, and no reason against it."""
    verdict = decision.verdict

    assert (verdict is Verdict.FAILED) == bool(decision.findings)
    if verdict is Verdict.PASSED:
        assert decision.decisions
        assert not decision.undecided
        assert not decision.not_applicable
    if verdict is Verdict.NOT_APPLICABLE:
        assert decision.not_applicable
