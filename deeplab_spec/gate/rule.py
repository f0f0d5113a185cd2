"""When the gate has seen enough: a sequential test of one number, how much slower head is than base.

Every pair of processes gives the logarithm of head's time over base's. Let ``d`` be its mean in the
long run and ``m = log(1 + margin)``. Two claims can be made, each with its own error:

* FAIL says ``d > m / 2``: the lower bound of ``d``, at error ``alpha``, is above half of the margin.
* PASS says ``d < m``: the upper bound of ``d``, at error ``beta``, is below the margin.

While neither holds, more pairs are run; at the cap the verdict is INCONCLUSIVE. FAIL must be decided
inside the margin, or a slowdown of exactly the margin would be found with probability ``alpha``. Half of
it leaves the same distance on both sides: identical code (``d = 0``) would have to err by ``m / 2``
*and* by the width of the interval to fail, so its false alarms stay far below ``alpha``; a slowdown of
the margin passes with probability ``beta`` at most, and fails otherwise unless the cap comes first.
Between ``m / 2`` and ``m`` either claim is true, and either may be made.

Bounds are Student's, over pairs of processes: what is the same within a process (memory layout, the
neighbours of its seconds) is one observation, however many runs it times. The rule looks at a few fixed
numbers of pairs, and the errors are divided over the looks in proportion to the pairs (Bonferroni): the
chance of a wrong claim at *any* look is then at most ``alpha`` or ``beta``, whatever the dependence
between looks. With several cases ``alpha`` is divided by their number, so that identical code fails
anywhere with probability ``alpha`` at most; ``beta`` is kept for each case.

A fixed design runs the cap of pairs and looks once, at the whole of both errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from math import fsum, isfinite, log1p, sqrt
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.measure.statistics import student

_LOOKS: Final = (6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
MIN_PAIRS: Final = _LOOKS[0]
MAX_PAIRS: Final = _LOOKS[-1]


class GateVerdict(StrEnum):
    """What the gate says of a case, or of all."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How the verdict on one case is reached.

    Attributes:
        margin: The slowdown that must be found, as a fraction: 0.1 is ten percent more time.
        alpha: Probability of a wrong FAIL, over all looks and cases.
        beta: Probability of a wrong PASS, over all looks.
        max_pairs: The cap of pairs.
        fixed: Whether exactly ``max_pairs`` are run, and looked at once.
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
            if not 0 < value < 0.5:  # noqa: PLR2004 - a bound beyond the middle is none
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
        """The log-ratio that PASS excludes."""
        return log1p(self.margin)

    @property
    def fails_above(self) -> float:
        """The log-ratio that FAIL is beyond."""
        return self.passes_below / 2


@cache
def _looks(most: int) -> tuple[int, ...]:
    return (*(look for look in _LOOKS if look < most), most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the pairs say at a look.

    Attributes:
        pairs: How many there are.
        log_ratio: Mean of the log-ratios; positive where head is slower.
        low: Lower bound at this look's share of ``alpha``.
        high: Upper bound at this look's share of ``beta``.
    """

    pairs: int
    log_ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict, and the estimate that it was reached on; None of fewer than two pairs."""

    verdict: GateVerdict
    estimate: Estimate | None


def estimate(rule: Rule, log_ratios: Sequence[float]) -> Estimate:
    """Return mean and bounds of log-ratios, of which there must be two."""
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
    """Return the decision that these pairs are enough for; None if more must be run.

    Args:
        rule: The rule.
        log_ratios: Of the pairs so far, in order.
    """
    if len(log_ratios) not in rule.looks:
        return None
    seen = estimate(rule, log_ratios)
    if seen.low > rule.fails_above:
        return Decision(verdict=GateVerdict.FAIL, estimate=seen)
    if seen.high < rule.passes_below:
        return Decision(verdict=GateVerdict.PASS, estimate=seen)
    if len(log_ratios) == rule.max_pairs:
        return Decision(verdict=GateVerdict.INCONCLUSIVE, estimate=seen)
    return None


def follow(rule: Rule, log_ratios: Sequence[float]) -> Decision:
    """Return the decision of a gate that meets these pairs in this order."""
    for look in rule.looks:
        decision = decide(rule, log_ratios[:look]) if look <= len(log_ratios) else None
        if decision:
            return decision
    return undecided(rule, log_ratios)


def undecided(rule: Rule, log_ratios: Sequence[float]) -> Decision:
    """Return the decision where no more pairs come."""
    seen = estimate(rule, log_ratios) if len(log_ratios) > 1 else None
    return Decision(verdict=GateVerdict.INCONCLUSIVE, estimate=seen)


def overall(verdicts: Sequence[GateVerdict]) -> GateVerdict:
    """Return the verdict on all cases: any failure fails, and only passes pass; of none, nothing is known."""
    if GateVerdict.FAIL in verdicts:
        return GateVerdict.FAIL
    if verdicts and all(verdict is GateVerdict.PASS for verdict in verdicts):
        return GateVerdict.PASS
    return GateVerdict.INCONCLUSIVE
