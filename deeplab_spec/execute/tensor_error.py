"""How far a tensor is from the expected one: the errors that every comparison of values uses.

Errors are relative to the expected tensor, and absolute where all of it is zero.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def all_finite(tensor: Tensor) -> bool:
    """Tell whether every element is finite; their sum, which is several times as fast, mostly says so."""
    return math.isfinite(float(tensor.sum())) or bool(tensor.isfinite().all())


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the root mean square of the difference, over that of the expected tensor; infinite for another shape."""
    if actual.shape != expected.shape:
        return math.inf
    scale = float(torch.linalg.vector_norm(expected.double()))
    error = float(torch.dist(actual.double(), expected.double()))
    return error / (scale if scale > 0 else math.sqrt(expected.numel()))


def largest_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference, over the largest element of the expected tensor; infinite if one is not finite."""
    if actual.shape != expected.shape:
        return math.inf
    if not expected.numel():
        return 0.0
    error, scale = float((actual.double() - expected.double()).abs().max()), float(expected.double().abs().max())
    return error / (scale or 1.0) if math.isfinite(error) and math.isfinite(scale) else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """How far values are from the oracle's.

    Attributes:
        mean: Root mean square of the difference, over that of the oracle's values.
        most: Largest difference, over the largest element of the oracle's values.
    """

    mean: float
    most: float

    @property
    def finite(self) -> bool:
        """Whether both are finite."""
        return math.isfinite(self.mean) and math.isfinite(self.most)

    def within(self, allowed: "Error") -> bool:
        """Tell whether both are at most what is allowed; an error that is not finite is not, and allows nothing."""
        return self.finite and allowed.finite and self.mean <= allowed.mean and self.most <= allowed.most

    def over(self, other: "Error", least: float) -> float:
        """Return how many times another error this one is, by the measure that is worse.

        An error of the other that is smaller than ``least`` is taken to be that.
        """
        return max(self.mean / max(other.mean, least), self.most / max(other.most, least))


def error_of(actual: Tensor, oracle: Tensor) -> Error:
    """Return both errors of a tensor; infinite for another shape, or an element that is not finite."""
    if actual.shape != oracle.shape or not bool(actual.isfinite().all()):
        return Error(mean=math.inf, most=math.inf)
    return Error(mean=relative_error(actual, oracle), most=largest_error(actual, oracle))
