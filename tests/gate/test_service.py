"""Timing a case: when it is decided, which pairs are dropped, and the second set that confirms a FAIL."""

from collections.abc import Sequence
from itertools import islice

import pytest

from deeplab_spec.gate.calibrate import simulate
from deeplab_spec.gate.document import GateVerdict, Timing
from deeplab_spec.gate.pairs import Pair
from deeplab_spec.gate.rule import Rule
from deeplab_spec.gate.service import CONFIRMING_ALPHA, confirming, time_case
from tests.support.gate_pairs import make_pair

FAIL, PASS, INCONCLUSIVE = GateVerdict.FAIL, GateVerdict.PASS, GateVerdict.INCONCLUSIVE


def timed(rule: Rule, pairs: Sequence[Pair], requests: list[int] | None = None) -> Timing:
    """Return the timing of pairs that come in this order; the last one is repeated."""
    left = list(pairs)

    def measure(coming: int) -> Pair:
        if requests is not None:
            requests.append(coming)
        return left.pop(0) if len(left) > 1 else left[0]

    return time_case(rule, measure, lambda *_: None, "case")


def test_pairs_are_measured_until_the_rule_decides() -> None:
    """Equal times are decided at the first look; noise needs the largest number of pairs."""
    noisy = [make_pair(0.8 if number % 2 else -0.8) for number in range(8)]
    done = timed(Rule(), [make_pair()])
    capped = timed(Rule(max_pairs=8), noisy)

    assert (done.decision.verdict, len(done.pairs), done.dropped, done.reason) == (PASS, 6, 0, "")
    assert done.seconds == 36.0
    assert done.confirmation is None
    assert (capped.decision.verdict, len(capped.pairs)) == (INCONCLUSIVE, 8)
    assert capped.reason == "8 pairs were not enough to tell"


def test_a_fixed_number_of_pairs_is_measured_even_if_fewer_would_decide() -> None:
    """The only look is after the last pair."""
    done = timed(Rule(max_pairs=10, fixed=True), [make_pair()])

    assert (done.decision.verdict, len(done.pairs)) == (PASS, 10)


def test_measure_learns_how_many_pairs_come_until_the_next_look() -> None:
    """They can start together: six until the first look, two until the second, one more for a dropped pair."""
    requests: list[int] = []
    noisy = [make_pair(0.8 if number % 2 else -0.8) for number in range(7)]
    timed(Rule(max_pairs=8), [*noisy[:5], make_pair(witness_ratio=2.0), *noisy[5:], make_pair(0.8)], requests)

    assert requests == [6, 5, 4, 3, 2, 1, 1, 2, 1]


@pytest.mark.parametrize(
    ("disturbed", "reason"),
    [
        (make_pair(0.9, witness_ratio=1.3), "the clocks differed in 6 of 6 pairs"),
        (make_pair(0.9, witness_ratio=1 / 1.3), "the clocks differed in 6 of 6 pairs"),
        (make_pair(0.9, apart=1.2), "a clock moved in 6 of 6 pairs"),
        (make_pair(0.9, drift=1.6), "a clock moved in 6 of 6 pairs"),
        (make_pair(0.9, slowed_by="temperature"), "the device was slowed (temperature) in 6 of 6 pairs"),
    ],
    ids=["slower", "faster", "apart", "drift", "slowed"],
)
def test_a_disturbed_pair_is_dropped_and_too_many_of_them_are_inconclusive(disturbed: Pair, reason: str) -> None:
    """Its ratio would fail the case, but the processor was slower, not the code."""
    once = timed(Rule(), [make_pair(), disturbed, make_pair(), make_pair()])
    always = timed(Rule(), [disturbed])

    assert (once.decision.verdict, len(once.pairs), once.dropped) == (PASS, 6, 1)
    assert disturbed not in once.pairs
    assert (always.decision.verdict, always.decision.estimate) == (INCONCLUSIVE, None)
    assert (len(always.pairs), always.dropped, always.reason) == (0, 6, reason)


def test_clocks_that_are_nearly_equal_drop_nothing() -> None:
    """A common change of the clocks cancels in the ratio, unless it is large."""
    done = timed(Rule(), [make_pair(witness_ratio=1.14, apart=1.14, drift=1.49)])

    assert (done.decision.verdict, done.dropped) == (PASS, 0)


def test_a_third_of_the_pairs_may_be_dropped() -> None:
    """More than a third is too many; the reason counts each cause."""
    bad, moved = make_pair(witness_ratio=2.0), make_pair(drift=2.0)
    done = timed(
        Rule(max_pairs=8, fixed=True), [make_pair(), make_pair(), bad, make_pair(), make_pair(), moved, make_pair()]
    )
    over = timed(Rule(), [make_pair(), make_pair(), bad, bad, make_pair(), moved, make_pair()])

    assert (done.decision.verdict, done.dropped) == (PASS, 2)
    assert over.decision.verdict is INCONCLUSIVE
    assert over.reason == "the clocks differed in 2 of 6 pairs, a clock moved in 1 of 6 pairs"


def test_a_fail_needs_a_second_set_of_pairs_that_confirms_it() -> None:
    """Twice six pairs; the estimate is that of the first set, for which the error is bounded."""
    done = timed(Rule(), [*[make_pair(0.2) for _ in range(6)], make_pair(0.1)])

    assert done.decision.verdict is FAIL
    assert done.decision.estimate
    assert done.decision.estimate.log_ratio == pytest.approx(0.2)
    assert done.confirmation
    assert (len(done.pairs), len(done.confirmation.pairs), done.seconds) == (6, 6, 72.0)
    assert done.confirmation.decision.verdict is FAIL


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ([make_pair(0.0)], "it says PASS"),
        ([make_pair(0.8), make_pair(-0.8)] * 16, "32 pairs were not enough to tell"),
        ([make_pair(0.2, drift=3.0)], "a clock moved in 6 of 6 pairs"),
    ],
    ids=["pass", "cap", "clocks"],
)
def test_a_fail_that_is_not_confirmed_is_inconclusive(second: list[Pair], why: str) -> None:
    """A disturbance during the first set is not a slowdown of the code."""
    done = timed(Rule(), [*[make_pair(0.2) for _ in range(6)], *second])

    assert done.decision.verdict is INCONCLUSIVE
    assert done.decision.estimate
    assert done.reason == f"a second set of processes did not confirm it: {why}"
    assert done.confirmation


def test_the_second_set_follows_the_rule_with_a_larger_alpha() -> None:
    """It is an additional condition; the cases share the error of the first set only."""
    rule = Rule(margin=0.2, cases=4, max_pairs=12)

    assert confirming(rule) == Rule(margin=0.2, cases=1, max_pairs=12, alpha=CONFIRMING_ALPHA)
    assert confirming(Rule(fixed=True)).looks == (32,)


@pytest.mark.parametrize(
    ("first", "second", "verdict", "pairs"),
    [(0.0, 0.2, PASS, 6), (0.2, 0.2, FAIL, 12), (0.2, 0.0, INCONCLUSIVE, 12)],
)
def test_a_simulated_trial_has_the_verdict_and_the_pairs_of_the_gate(
    first: float, second: float, verdict: GateVerdict, pairs: int
) -> None:
    """Both count the pairs of both sets."""
    coming = iter([first] * 6 + [second] * 32)
    trial = simulate(Rule(), lambda count: list(islice(coming, count)))
    real = timed(Rule(), [*[make_pair(first) for _ in range(6)], make_pair(second)])

    assert (trial.verdict, trial.pairs) == (verdict, pairs)
    assert trial.first is (FAIL if first else PASS)
    assert real.decision.verdict is verdict
    assert len(real.pairs) + (len(real.confirmation.pairs) if real.confirmation else 0) == pairs
