"""The error of every step over the depth of the network, as points of a plot."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from deeplab_spec.judge.certificate import Certificate, StepError
from deeplab_spec.judge.expected import part_of

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 1100, 300, 64, 34, 24, 16
LEAST, MOST = -18, 2
"""Powers of ten at the lower and the upper edge; an error of zero stands at the lower edge."""

TICKS: Final = (-16, -12, -8, -4, 0)
LARGEST: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One step."""

    x: float
    y: float
    path: str
    error: str
    over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A part of the network along the horizontal axis."""

    name: str
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """The errors at one output stride."""

    stride: int
    dots: tuple[Dot, ...]
    limit: float
    bands: tuple[Band, ...]

    @property
    def over(self) -> int:
        """The number of steps over the limit."""
        return sum(dot.over for dot in self.dots)

    @property
    def ticks(self) -> tuple[tuple[int, float], ...]:
        """Powers of ten, each with its height."""
        return tuple((power, height(10.0**power)) for power in TICKS)

    @property
    def largest(self) -> list[Dot]:
        """The steps with the largest errors."""
        return sorted(self.dots, key=lambda dot: dot.y)[:LARGEST]


def height(error: float | None) -> float:
    """Return where an error stands, in pixels from above.

    >>> height(0.0) > height(1e-16) > height(1.0)
    True
    """
    power = MOST if error is None else LEAST if error <= 0 else math.log10(error)
    share = (min(max(power, LEAST), MOST) - LEAST) / (MOST - LEAST)
    return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)


def plots(certificate: Certificate) -> list[Plot]:
    """Return one plot for each output stride."""
    grouped = groupby(certificate.steps, key=lambda step: step.output_stride)
    return [_plot(stride, list(steps)) for stride, steps in grouped]


def _plot(stride: int, steps: Sequence[StepError]) -> Plot:
    gap = (WIDTH - LEFT - RIGHT) / max(1, len(steps))
    dots = tuple(
        Dot(
            x=round(LEFT + gap * (number + 0.5), 1),
            y=height(step.error),
            path=step.path,
            error="not finite" if step.error is None else f"{step.error:.2g}",
            over=step.error is None or not step.error <= step.allowed,
        )
        for number, step in enumerate(steps)
    )
    limit = height(max(step.allowed for step in steps))
    return Plot(stride=stride, dots=dots, limit=limit, bands=tuple(_bands(steps, gap)))


def _bands(steps: Sequence[StepError], gap: float) -> Iterator[Band]:
    start = 0
    for name, members in groupby(steps, key=lambda step: part_of(step.path) or ""):
        count = len(list(members))
        yield Band(name=name, x=round(LEFT + gap * start, 1), width=round(gap * count, 1))
        start += count
