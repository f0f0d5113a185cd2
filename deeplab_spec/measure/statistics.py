"""Intervals over few measurements: of a mean, of a difference of means, and of a ratio from pairs.

The measured values that the documents of several features share are here too.

The steps of one process are not independent of that process: an interval says how well the mean of
*these* steps is known. Whether a change is real across processes is decided by ``gate``.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import comb, exp, inf, lgamma, log, log1p, sqrt
from statistics import fmean, median, variance
from typing import Final

from deeplab_spec.views.document import Model


class CeilingsModel(Model):
    """The most that the device reached in the same process: FLOPs of a matrix product, bytes of a copy, per second."""

    flops_per_second: float
    bytes_per_second: float

    def least_seconds(self, flops: float, moved: float) -> float:
        """Return the shortest time for so many operations and bytes, which overlap.

        >>> CeilingsModel(flops_per_second=100, bytes_per_second=10).least_seconds(200, 30)
        3.0
        """
        return max(flops / self.flops_per_second, moved / self.bytes_per_second)


class RatioModel(Model):
    """How many times as fast as eager, from pairs of runs: the median, and an interval of it with its coverage."""

    median: float
    low: float
    high: float
    coverage: float


class IntervalModel(Model):
    """An estimate with its 95 % interval over the steps of both sides (Welch)."""

    mean: float
    low: float
    high: float

    @property
    def contains_zero(self) -> bool:
        """Whether no difference at all is among the values that the interval allows."""
        return self.low <= 0 <= self.high


LEVEL: Final = 0.95
"""Coverage of every interval; an interval from fewer than six pairs has less."""

_FEWEST_PAIRS: Final = 3


def mean_interval(steps: Sequence[float]) -> IntervalModel:
    """Return the mean of at least two steps with its interval.

    >>> result = mean_interval([9, 10, 11])
    >>> result.mean, round(result.high - result.mean, 3)
    (10.0, 2.484)
    """
    mean = fmean(steps)
    half = student(len(steps) - 1, (1 - LEVEL) / 2) * sqrt(variance(steps) / len(steps))
    return IntervalModel(mean=mean, low=mean - half, high=mean + half)


def difference(before: Sequence[float], after: Sequence[float]) -> IntervalModel:
    """Return how much larger the second mean is, with Welch's interval.

    >>> result = difference([9, 10, 11], [19, 20, 21])
    >>> result.mean, round(result.low, 3), round(result.high, 3)
    (10.0, 7.733, 12.267)
    """
    squares = [variance(steps) / len(steps) for steps in (before, after)]
    mean = fmean(after) - fmean(before)
    half = _welch(squares, (len(before), len(after)))
    return IntervalModel(mean=mean, low=mean - half, high=mean + half)


def slowdown(before: Sequence[float], after: Sequence[float]) -> IntervalModel:
    """Return by which part the second mean is larger than the first: 0.1 for 10 % slower.

    The interval is Welch's for the logarithm of the ratio, whose variance is that of the relative errors.
    """
    means = fmean(before), fmean(after)
    squares = [variance(steps) / len(steps) / mean**2 for steps, mean in zip((before, after), means, strict=True)]
    half = _welch(squares, (len(before), len(after)))
    ratio = means[1] / means[0]
    return IntervalModel(mean=ratio - 1, low=ratio * exp(-half) - 1, high=ratio * exp(half) - 1)


def _welch(squares: Sequence[float], counts: Sequence[int]) -> float:
    """Return half the width of the interval of a difference, from the squared standard errors of both sides."""
    total = sum(squares)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(square**2 / (count - 1) for square, count in zip(squares, counts, strict=True))
    return student(freedom, (1 - LEVEL) / 2) * sqrt(total)


def paired_ratio(base: Sequence[float], other: Sequence[float]) -> RatioModel | None:
    """Return how many times as fast the other is, from pairs of times; None for fewer than three pairs.

    The interval lies between two of the sorted ratios, as many from either end: the narrowest that contains the
    median with 95 %. For fewer than six pairs it is the smallest to the largest ratio.

    >>> paired_ratio([2, 4, 6, 8, 10, 12], [1, 1, 2, 2, 2, 3])
    RatioModel(median=4.0, low=2.0, high=5.0, coverage=0.96875)
    """
    ratios = sorted(first / second for first, second in zip(base, other, strict=True))
    count = len(ratios)
    if count < _FEWEST_PAIRS:
        return None
    skipped = max((skip for skip in range(count // 2) if _coverage(count, skip) >= LEVEL), default=0)
    return RatioModel(
        median=median(ratios), low=ratios[skipped], high=ratios[-1 - skipped], coverage=_coverage(count, skipped)
    )


def _coverage(count: int, skipped: int) -> float:
    """Return the probability that the median lies inside, when so many ratios at each end are skipped."""
    outside: int = sum(comb(count, below) for below in range(skipped + 1))
    return 1 - 2 * outside / 2.0**count


@lru_cache(maxsize=1024)
def student(freedom: float, tail: float) -> float:
    """Return the value that Student's t exceeds with a given probability.

    Args:
        freedom: Degrees of freedom; not necessarily a whole number.
        tail: The probability, below 0.5.

    >>> [round(student(freedom, 0.025), 3) for freedom in (1, 9, 30)]
    [12.706, 2.262, 2.042]
    """
    low, high = 0.0, 1.0
    while _tail(freedom, high) > tail:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(freedom, middle) > tail else (low, middle)
    return high


def _tail(freedom: float, value: float) -> float:
    """Return the probability that Student's t exceeds a value that is not negative."""
    return _beta(freedom / (freedom + value * value), freedom / 2, 0.5) / 2


def _beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    front = exp(a * log(x) + b * log1p(-x) + lgamma(a + b) - lgamma(a) - lgamma(b)) / a
    return front * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of the incomplete beta function, by the method of Lentz."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value, before, m = d, inf, 0
    while abs(value - before) > 1e-15 * abs(value):
        before, m = value, m + 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1 / (1 + numerator * d)
            c = 1 + numerator / c
            value *= c * d
    return value
