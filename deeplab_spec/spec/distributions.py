"""The distributions of initial weights, in closed form, and which convolution has which.

All but the constants are symmetric about zero.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from deeplab_spec.graph.ops import BatchNorm, Conv2d, Op
from deeplab_spec.spec.rows import Init, InitKind, NetworkRows

CUT: Final = 2.0
"""The release's truncated normal distribution ends at this many standard deviations."""

VARIANCE: Final = 1.3
"""Factor with which the release's framework corrects the variance of a truncated normal distribution."""


class Shape(StrEnum):
    """The shape of a distribution."""

    NORMAL = "normal"
    TRUNCATED = "truncated normal"
    UNIFORM = "uniform"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution of single numbers.

    Attributes:
        shape: Its shape.
        scale: Standard deviation of a normal distribution (before truncation); half the width of a uniform one; the
            value of a constant.
    """

    shape: Shape
    scale: float

    @property
    def bound(self) -> float:
        """The largest possible magnitude; infinite if there is none."""
        return {Shape.NORMAL: math.inf, Shape.TRUNCATED: CUT * self.scale}.get(self.shape, abs(self.scale))

    @property
    def variance(self) -> float:
        """The mean square of a value.

        >>> Distribution(shape=Shape.UNIFORM, scale=3.0).variance
        3.0
        """
        return self.scale**2 * _moments(self.shape)[0]

    @property
    def fourth_moment(self) -> float:
        """The mean fourth power of a value."""
        return self.scale**4 * _moments(self.shape)[1]

    def beyond(self, magnitude: float) -> float:
        """Return the probability that the magnitude of a value is larger than a given one.

        >>> Distribution(shape=Shape.UNIFORM, scale=2.0).beyond(1.5)
        0.25
        """
        if magnitude >= self.bound:
            return 0.0
        if self.shape is Shape.UNIFORM:
            return 1 - magnitude / self.scale
        outside = math.erfc(magnitude / self.scale / math.sqrt(2))
        if self.shape is Shape.TRUNCATED:
            cut = math.erfc(CUT / math.sqrt(2))
            return (outside - cut) / (1 - cut)
        return outside

    def __str__(self) -> str:
        if self.shape is Shape.CONSTANT:
            return f"{self.scale:g}"
        return f"{self.shape.value}, deviation {math.sqrt(self.variance):.3g}"


def _moments(shape: Shape) -> tuple[float, float]:
    """Return the mean square and the mean fourth power at scale 1."""
    match shape:
        case Shape.NORMAL:
            return 1.0, 3.0
        case Shape.TRUNCATED:
            inside = math.erf(CUT / math.sqrt(2))
            edge = 2 * CUT * math.exp(-CUT * CUT / 2) / math.sqrt(2 * math.pi) / inside
            square = 1 - edge
            return square, 3 * square - CUT * CUT * edge
        case Shape.UNIFORM:
            return 1 / 3, 1 / 5
        case Shape.CONSTANT:
            return 1.0, 1.0


_NEW_NORM: Final = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
"""Initial values of a normalisation: the identity on values with mean 0 and variance 1."""


def distribution(op: Op, role: str, init: Init | None) -> Distribution | None:
    """Return the distribution of an initial tensor; None if it is not specified."""
    match op:
        case BatchNorm():
            return Distribution(shape=Shape.CONSTANT, scale=_NEW_NORM[role])
        case Conv2d() if init is not None:
            return _of_bias(op, init) if role == "bias" else _of_weight(op, init)
        case _:
            return None


def _of_weight(conv: Conv2d, init: Init) -> Distribution:
    taps = conv.kernel[0] * conv.kernel[1]
    fan_in, fan_out = conv.channels_in // conv.groups * taps, conv.channels_out * taps
    match init.kind:
        case InitKind.KAIMING_FAN_IN:
            return Distribution(shape=Shape.NORMAL, scale=math.sqrt(2 / fan_in))
        case InitKind.KAIMING_FAN_OUT:
            return Distribution(shape=Shape.NORMAL, scale=math.sqrt(2 / fan_out))
        case InitKind.TRUNCATED_NORMAL:
            return Distribution(shape=Shape.TRUNCATED, scale=init.std)
        case InitKind.VARIANCE_SCALING:
            return Distribution(shape=Shape.TRUNCATED, scale=math.sqrt(VARIANCE * 2 / fan_in))
        case InitKind.NORMAL:
            return Distribution(shape=Shape.NORMAL, scale=init.std)
        case InitKind.KAIMING_UNIFORM:
            return Distribution(shape=Shape.UNIFORM, scale=math.sqrt(6 / fan_in))
        case InitKind.XAVIER_UNIFORM:
            return Distribution(shape=Shape.UNIFORM, scale=math.sqrt(6 / (fan_in + fan_out)))
        case InitKind.FRAMEWORK:
            return Distribution(shape=Shape.UNIFORM, scale=1 / math.sqrt(fan_in))


def _of_bias(conv: Conv2d, init: Init) -> Distribution:
    if init.zero_bias:
        return Distribution(shape=Shape.CONSTANT, scale=0.0)
    taps = conv.kernel[0] * conv.kernel[1]
    return Distribution(shape=Shape.UNIFORM, scale=1 / math.sqrt(conv.channels_in // conv.groups * taps))


def initials(table: NetworkRows) -> Mapping[str, Init]:
    """Return the initialisation of every convolution of a network, by path.

    >>> from deeplab_spec.spec.network import rows
    >>> from deeplab_spec.spec.variants import TF_RELEASE
    >>> initials(rows(TF_RELEASE.choices, 16, 21))["decoder.logits.conv"].std
    0.01
    """
    return {f"{row.path}.conv": row.init for row in table.convolutions}
