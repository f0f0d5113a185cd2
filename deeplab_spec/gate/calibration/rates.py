"""How often trials end in each verdict, and what their number leaves open."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

from deeplab_spec.gate.rule import GateVerdict

_NORMAL_95: Final = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often trials end in FAIL, and in the other verdicts.

    Attributes:
        trials: How many were made.
        failed: How many ended in FAIL.
        passed: How many ended in PASS.
        low: Lower end of the 95 % Wilson interval of FAIL: what this number of trials leaves open.
        high: Its upper end.
    """

    trials: int
    failed: int
    passed: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """The share of trials that end in FAIL."""
        return self.failed / self.trials if self.trials else 0.0


def rate(verdicts: Sequence[GateVerdict]) -> Rate:
    """Return how often the verdicts are FAIL, with the Wilson interval."""
    trials, failed = len(verdicts), verdicts.count(GateVerdict.FAIL)
    low, high = wilson(failed, trials)
    return Rate(trials=trials, failed=failed, passed=verdicts.count(GateVerdict.PASS), low=low, high=high)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share; of no trials, nothing is known.

    >>> [round(end, 4) for end in wilson(0, 300)]
    [0.0, 0.0126]
    """
    if not trials:
        return 0.0, 1.0
    square = _NORMAL_95**2
    share = successes / trials
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = _NORMAL_95 / (1 + square / trials) * sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)
