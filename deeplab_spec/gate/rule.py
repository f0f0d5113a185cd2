"""When a case is decided: a sequential test of how much slower head is than base.

Every pair of processes gives the logarithm of head's time over base's time. Let ``d`` be its expected
value and ``m = log(1 + margin)``. There are two claims, each with its own error probability:

* FAIL claims ``d > m / 2``: the lower bound of ``d``, at error ``alpha``, is above half of the margin.
* PASS claims ``d < m``: the upper bound of ``d``, at error ``beta``, is below the margin.

While neither bound decides, more pairs are measured; at the largest number of pairs the verdict is
INCONCLUSIVE. The threshold of FAIL must lie inside the margin: otherwise a slowdown of exactly the margin
would be detected with probability ``alpha``. Half of the margin leaves the same distance on both sides.
Identical code (``d = 0``) fails only if the estimate is off by ``m / 2`` plus the width of the interval,
so its false alarms are far below ``alpha``. A slowdown of the margin passes with probability ``beta`` at
most, and otherwise fails unless the pairs run out first. Between ``m / 2`` and ``m`` both claims are true,
and either may be made.

The bounds use Student's t over pairs of processes. What is the same within a process (memory layout, the
load of the machine at that time) is one observation, however many runs are timed. The rule looks at the
estimate after a few fixed numbers of pairs, and divides the errors over the looks in proportion to the
pairs (Bonferroni). The probability of a wrong claim at *any* look is then at most ``alpha`` or ``beta``,
whatever the dependence between looks. With several cases ``alpha`` is divided by their number, so that
identical code fails in any of them with probability ``alpha`` at most; ``beta`` holds for each case.

A fixed design measures exactly ``max_pairs`` and looks once, with the whole of both errors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import fsum, isfinite, log1p, sqrt
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.gate.document import Decision, Estimate, GateVerdict
from deeplab_spec.measure.statistics import student

_LOOKS: Final = (6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
MIN_PAIRS: Final = _LOOKS[0]
MAX_PAIRS: Final = _LOOKS[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How the verdict on one case is reached.

    Attributes:
        margin: The slowdown that must be detected, as a fraction: 0.1 is ten percent more time.
        alpha: Probability of a wrong FAIL, over all looks and cases.
        beta: Probability of a wrong PASS, over all looks.
        max_pairs: The largest number of pairs.
        fixed: Whether exactly ``max_pairs`` are measured and looked at once.
        cases: How many cases share ``alpha``.

    Raises:
        SpecError: If a number is out of its range.
    """

    margin: float = 0.1
    alpha: float = 0.01
    beta: float = 0.03
    max_pairs: int = 32
    fixed: bool = False
    cases: int = 1

    def __post_init__(self) -> None:
        if not (isfinite(self.margin) and self.margin > 0):
            raise SpecError("--margin", "must be a positive fraction: 0.1 is ten percent", self.margin)
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            if not 0 < value < 0.5:  # noqa: PLR2004 - a bound beyond the median bounds nothing
                raise SpecError(name, "must be between 0 and 0.5", value)
        if not MIN_PAIRS <= self.max_pairs <= MAX_PAIRS:
            raise SpecError(
                "--pairs" if self.fixed else "--max-pairs", f"must be from {MIN_PAIRS} to {MAX_PAIRS}", self.max_pairs
            )
        if self.cases < 1:
            raise SpecError("cases", "must be 1 or more", self.cases)

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of pairs at which the rule looks."""
        return (self.max_pairs,) if self.fixed else _looks(self.max_pairs)

    @property
    def passes_below(self) -> float:
        """The log-ratio that the upper bound must be below for PASS."""
        return log1p(self.margin)

    @property
    def fails_above(self) -> float:
        """The log-ratio that the lower bound must be above for FAIL."""
        return self.passes_below / 2


@cache
def _looks(most: int) -> tuple[int, ...]:
    return (*(look for look in _LOOKS if look < most), most)


def estimate(rule: Rule, log_ratios: Sequence[float]) -> Estimate:
    """Return the mean and the bounds of at least two log-ratios."""
    pairs = len(log_ratios)
    mean = fsum(log_ratios) / pairs
    error = sqrt(fsum((ratio - mean) ** 2 for ratio in log_ratios) / (pairs - 1) / pairs)
    share = pairs / sum(rule.looks)
    return Estimate(
        pairs=pairs,
        log_ratio=mean,
        low=mean - student(pairs - 1, rule.alpha / rule.cases * share) * error,
        high=mean + student(pairs - 1, rule.beta * share) * error,
    )


def decide(rule: Rule, log_ratios: Sequence[float]) -> Decision | None:
    """Return the decision on these pairs; None if more pairs must be measured."""
    if len(log_ratios) not in rule.looks:
        return None
    current = estimate(rule, log_ratios)
    if current.low > rule.fails_above:
        return Decision(verdict=GateVerdict.FAIL, estimate=current)
    if current.high < rule.passes_below:
        return Decision(verdict=GateVerdict.PASS, estimate=current)
    if len(log_ratios) == rule.max_pairs:
        return Decision(verdict=GateVerdict.INCONCLUSIVE, estimate=current)
    return None


def follow(rule: Rule, draw: Callable[[int], Sequence[float]]) -> Decision:
    """Return the decision on simulated pairs: ``draw`` returns the log-ratios of the next so many."""
    log_ratios: list[float] = []
    for look in rule.looks:
        log_ratios += draw(look - len(log_ratios))
        decision = decide(rule, log_ratios)
        if decision:
            break
    return decision or undecided(rule, log_ratios)


def undecided(rule: Rule, log_ratios: Sequence[float]) -> Decision:
    """Return the decision if no more pairs can be measured."""
    last = estimate(rule, log_ratios) if len(log_ratios) > 1 else None
    return Decision(verdict=GateVerdict.INCONCLUSIVE, estimate=last)


def overall(verdicts: Sequence[str]) -> GateVerdict:
    """Return the verdict on all cases: FAIL if one fails, PASS if all pass, else INCONCLUSIVE, also for no case."""
    if GateVerdict.FAIL in verdicts:
        return GateVerdict.FAIL
    if verdicts and all(verdict == GateVerdict.PASS for verdict in verdicts):
        return GateVerdict.PASS
    return GateVerdict.INCONCLUSIVE
