"""Quantiles of Student's t-distribution, for intervals and tests over few measurements."""

from functools import lru_cache
from math import exp, inf, lgamma, log, log1p


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
