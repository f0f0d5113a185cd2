"""Quantiles of Student's t, from the finite sums for whole degrees of freedom."""

from functools import cache
from math import atan, cos, pi, sin, sqrt


@cache
def student(freedom: int, tail: float) -> float:
    """Return what Student's t exceeds with probability ``tail``.

    >>> round(student(5, 0.05), 3), round(student(30, 0.005), 3)
    (2.015, 2.75)
    """
    low, high = 0.0, 1.0
    while _beyond(freedom, high) > tail:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _beyond(freedom, middle) > tail else (low, middle)
    return high


def _beyond(freedom: int, t: float) -> float:
    """Return the probability that Student's t exceeds ``t``: the finite sums for whole degrees of freedom."""
    angle = atan(t / sqrt(freedom))
    square = cos(angle) ** 2
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for step in range(2 + odd, freedom - 1, 2):
        term *= square * (step - 1) / step
        total += term
    inside = 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
    return (1 - inside) / 2
