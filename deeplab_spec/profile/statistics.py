"""Means over steps with intervals, and the difference of two means.

The steps of one process are not independent of the process: an interval says how well the mean of
*these* steps is known. Whether a change is real across processes is what ``gate`` decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, lgamma, log, log1p, sqrt
from statistics import fmean, variance
from typing import Final

LEVEL: Final = 0.95
"""Coverage of every interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its interval; infinite where nothing is known."""

    mean: float
    low: float
    high: float


def mean_interval(steps: Sequence[float]) -> Interval:
    """Return the mean of at least two steps with its interval.

    >>> found = mean_interval([9, 10, 11])
    >>> found.mean, round(found.high - found.mean, 3)
    (10.0, 2.484)
    """
    mean = fmean(steps)
    half = quantile((1 + LEVEL) / 2, len(steps) - 1) * sqrt(variance(steps) / len(steps))
    return Interval(mean=mean, low=mean - half, high=mean + half)


def difference(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Return how much larger the second mean is, with Welch's interval.

    >>> found = difference([9, 10, 11], [19, 20, 21])
    >>> found.mean, round(found.low, 3), round(found.high, 3)
    (10.0, 7.733, 12.267)
    """
    squares = [variance(steps) / len(steps) for steps in (before, after)]
    mean = fmean(after) - fmean(before)
    half = _welch(squares, (len(before), len(after)))
    return Interval(mean=mean, low=mean - half, high=mean + half)


def slowdown(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Return by which part the second mean is larger than the first: 0.1 for 10 % slower.

    The interval is Welch's for the logarithm of the ratio, whose variance is that of the relative errors.
    """
    means = fmean(before), fmean(after)
    squares = [variance(steps) / len(steps) / mean**2 for steps, mean in zip((before, after), means, strict=True)]
    half = _welch(squares, (len(before), len(after)))
    ratio = means[1] / means[0]
    return Interval(mean=ratio - 1, low=ratio * exp(-half) - 1, high=ratio * exp(half) - 1)


def _welch(squares: Sequence[float], counts: Sequence[int]) -> float:
    """Return half the interval of a difference, from the squared standard errors of both sides."""
    total = sum(squares)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(square**2 / (count - 1) for square, count in zip(squares, counts, strict=True))
    return quantile((1 + LEVEL) / 2, freedom) * sqrt(total)


def quantile(probability: float, freedom: float) -> float:
    """Return a quantile above the median of Student's distribution.

    >>> [round(quantile(0.975, freedom), 3) for freedom in (1, 9, 30)]
    [12.706, 2.262, 2.042]
    """
    low, high = 0.0, 1.0
    while _distribution(high, freedom) < probability:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _distribution(middle, freedom) < probability else (low, middle)
    return high


def _distribution(value: float, freedom: float) -> float:
    """Return the probability of at most a value that is not negative."""
    return 1 - _beta(freedom / (freedom + value * value), freedom / 2, 0.5) / 2


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
