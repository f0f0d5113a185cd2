"""The gate's rule: its error rates by simulation, its looks and its bounds."""

import random
from collections.abc import Callable, Sequence
from math import log1p, nan, sqrt

import pytest

from deeplab_spec.errors import SpecError
from deeplab_spec.gate.document import Decision, GateVerdict
from deeplab_spec.gate.rule import Rule, decide, estimate, follow, overall, undecided
from deeplab_spec.measure.statistics import student

RULE = Rule()
FAIL, PASS, INCONCLUSIVE = GateVerdict.FAIL, GateVerdict.PASS, GateVerdict.INCONCLUSIVE

Noise = Callable[[random.Random], float]


def normal(chance: random.Random) -> float:
    """Return a normal deviate of variance 1."""
    return chance.gauss(0, 1)


def heavy(chance: random.Random) -> float:
    """Return a deviate of Student's t with 3 degrees of freedom, scaled to variance 1."""
    square = sum(chance.gauss(0, 1) ** 2 for _ in range(3))
    return chance.gauss(0, 1) / sqrt(square / 3) / sqrt(3)


def disturbed(chance: random.Random) -> float:
    """Return a deviate that is four times as wide in one of ten draws, scaled to variance 1."""
    return chance.gauss(0, 4 if chance.random() < 0.1 else 1) / sqrt(2.5)


def verdicts(slowdown: float, spread: float, noise: Noise, *, trials: int, rule: Rule = RULE) -> list[GateVerdict]:
    """Return the verdicts of simulated trials."""
    chance = random.Random(7)  # noqa: S311 - repeatable draws
    size = log1p(slowdown)

    def draw(count: int) -> list[float]:
        return [size + spread * noise(chance) for _ in range(count)]

    return [follow(rule, draw).verdict for _ in range(trials)]


@pytest.mark.parametrize("noise", [normal, heavy, disturbed])
@pytest.mark.parametrize("spread", [0.01, 0.025, 0.04])
def test_identical_code_fails_in_at_most_one_percent_of_trials(noise: Noise, spread: float) -> None:
    """False alarms are bounded for every noise for which ``max_pairs`` is enough; nearly all trials pass."""
    results = verdicts(0.0, spread, noise, trials=600)

    assert results.count(FAIL) <= 0.01 * 600
    assert results.count(PASS) >= 0.98 * 600


@pytest.mark.parametrize("noise", [normal, heavy, disturbed])
@pytest.mark.parametrize("spread", [0.01, 0.025, 0.04])
def test_a_slowdown_of_the_margin_fails_in_at_least_95_percent_of_trials(noise: Noise, spread: float) -> None:
    """A slowdown that is not detected is nearly always inconclusive, and seldom passes."""
    results = verdicts(0.1, spread, noise, trials=600)

    assert results.count(FAIL) >= 0.95 * 600
    assert results.count(PASS) <= 0.04 * 600


def test_a_slowdown_just_under_half_of_the_margin_seldom_fails() -> None:
    """FAIL claims more than half of the margin; at half of it, in log, the claim is wrong with ``alpha`` at most."""
    half = (1.1) ** 0.5 - 1

    assert verdicts(half, 0.02, normal, trials=1500).count(FAIL) <= 0.02 * 1500


def test_without_the_correction_looking_repeatedly_would_inflate_false_alarms() -> None:
    """The test above can fail: with all of ``alpha`` at each of many looks there are too many false alarms."""
    half, chance, wrong = log1p(0.1) / 2, random.Random(7), 0  # noqa: S311 - repeatable draws
    rule = Rule(max_pairs=128)
    for _ in range(400):
        ratios = [chance.gauss(half, 0.02) for _ in range(128)]
        seen = [estimate(rule, ratios[:look]) for look in rule.looks]
        plain = [entry.log_ratio - student(entry.pairs - 1, 0.01) * _error(ratios[: entry.pairs]) for entry in seen]
        wrong += any(low > rule.fails_above for low in plain)
    corrected = verdicts(1.1**0.5 - 1, 0.02, normal, trials=400, rule=rule).count(FAIL)

    assert wrong > 0.02 * 400
    assert corrected <= 0.015 * 400


def _error(ratios: Sequence[float]) -> float:
    mean = sum(ratios) / len(ratios)
    return sqrt(sum((ratio - mean) ** 2 for ratio in ratios) / (len(ratios) - 1) / len(ratios))


def test_too_much_noise_is_inconclusive() -> None:
    """The largest number of pairs is not enough to decide."""
    results = verdicts(0.1, 0.3, normal, trials=300)

    assert results.count(INCONCLUSIVE) > 0.9 * 300
    assert results.count(PASS) <= 0.03 * 300


def test_several_cases_share_the_false_alarms() -> None:
    """Bonferroni: each of eight cases has an eighth of ``alpha``, so its lower bound is lower."""
    ratios = [0.05, 0.06, 0.07, 0.08, 0.09, 0.07]
    alone, of_eight = estimate(Rule(), ratios), estimate(Rule(cases=8), ratios)

    share = 6 / sum(RULE.looks)
    assert of_eight.low == pytest.approx(alone.log_ratio - student(5, 0.01 / 8 * share) * _error(ratios), abs=1e-8)
    assert of_eight.low < alone.low
    assert of_eight.high == alone.high


def test_the_errors_of_all_looks_add_up_to_the_promised_ones() -> None:
    """The union bound holds because the shares add up to 1."""
    shares = [look / sum(RULE.looks) for look in RULE.looks]

    assert sum(shares) == pytest.approx(1)
    assert RULE.looks == (6, 8, 12, 16, 24, 32)
    assert Rule(max_pairs=10).looks == (6, 8, 10)
    assert Rule(max_pairs=6).looks == (6,)


def test_a_fixed_design_looks_once_at_the_whole_of_both_errors() -> None:
    """Earlier looks take no share of the errors, so its bounds are narrower."""
    fixed, ratios = Rule(max_pairs=16, fixed=True), [0.05, 0.06, 0.07, 0.08] * 4
    seen, looked = estimate(fixed, ratios), estimate(Rule(max_pairs=16), ratios)

    assert fixed.looks == (16,)
    assert decide(fixed, ratios[:12]) is None
    assert seen.low == pytest.approx(seen.log_ratio - student(15, 0.01) * _error(ratios), abs=1e-8)
    assert looked.low < seen.low < seen.high < looked.high


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [([0.0] * 6, PASS), ([0.2] * 6, FAIL), ([-0.5] * 6, PASS), ([0.05] * 6, FAIL), ([0.047] * 6, PASS)],
    ids=["equal", "slower", "faster", "over half", "under half"],
)
def test_pairs_without_noise_are_decided_at_the_first_look(ratios: list[float], expected: GateVerdict) -> None:
    """Above half of the margin FAIL comes first; below it only PASS is true."""
    decision = decide(RULE, ratios)

    assert decision is not None
    assert decision.verdict is expected


def test_nothing_is_decided_between_looks() -> None:
    """An additional look would add to the error."""
    assert decide(RULE, [0.0] * 5) is None
    assert decide(RULE, [0.0] * 7) is None
    assert decide(RULE, []) is None


def test_fewer_than_two_pairs_are_inconclusive() -> None:
    """There is no estimate."""
    assert undecided(RULE, []) == Decision(verdict=INCONCLUSIVE, estimate=None)
    assert undecided(RULE, [0.0]) == Decision(verdict=INCONCLUSIVE, estimate=None)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((), INCONCLUSIVE),
        ((PASS, PASS), PASS),
        ((PASS, INCONCLUSIVE), INCONCLUSIVE),
        ((INCONCLUSIVE, FAIL, PASS), FAIL),
    ],
)
def test_all_cases_pass_only_if_each_passes(verdicts: Sequence[GateVerdict], expected: GateVerdict) -> None:
    """No case at all is inconclusive."""
    assert overall(verdicts) is expected


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"margin": 0}, "--margin"),
        ({"margin": nan}, "--margin"),
        ({"alpha": 0}, "alpha"),
        ({"beta": 0.6}, "beta"),
        ({"max_pairs": 5}, "--max-pairs"),
        ({"max_pairs": 129}, "--max-pairs"),
        ({"max_pairs": 5, "fixed": True}, "--pairs"),
        ({"cases": 0}, "cases"),
    ],
)
def test_a_rule_refuses_numbers_out_of_range(fields: dict[str, float], where: str) -> None:
    """The message has the name of the option."""
    with pytest.raises(SpecError, match=f"^{where}: must be"):
        Rule(**fields)  # type: ignore[arg-type]
