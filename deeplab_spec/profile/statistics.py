"""Means over steps with intervals, and the difference of two means.

The steps of one process are not independent of the process: an interval says how well the mean of
*these* steps is known. Whether a change is real across processes is what ``gate`` decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, sqrt
from statistics import fmean, variance
from typing import Final

from deeplab_spec.measure.statistics import student

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
    half = student(len(steps) - 1, (1 - LEVEL) / 2) * sqrt(variance(steps) / len(steps))
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
    return student(freedom, (1 - LEVEL) / 2) * sqrt(total)
