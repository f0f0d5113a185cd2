"""Comparisons of tensors whose messages say what a value is, what it must be, and where."""

import math

import torch
from torch import Tensor, nn


def assert_same(actual: Tensor, expected: Tensor, what: str) -> None:
    """Compare bit for bit.

    Args:
        actual: The tensor.
        expected: What it must be.
        what: Name of the value, for the message.
    """
    __tracebackhide__ = True
    _assert_alike(actual, expected, what)
    different = (actual != expected) & ~(actual.isnan() & expected.isnan())
    _refuse(different, actual, expected, what)


def assert_near(actual: Tensor, expected: Tensor, what: str, terms: int) -> None:
    """Compare sums that may be computed in another order.

    The tolerance bounds the rounding error: eps of the dtype, times the number of terms, times the largest value.

    Args:
        actual: The tensor.
        expected: What it must be.
        what: Name of the value, for the message.
        terms: Additions and multiplications on the longest path from input to value.
    """
    __tracebackhide__ = True
    _assert_alike(actual, expected, what)
    tolerance = torch.finfo(expected.dtype).eps * terms * expected.abs().max()
    _refuse(~((actual - expected).abs() <= tolerance), actual, expected, what)


def terms_of(module: nn.Module) -> int:
    """Return the number of multiplications for one result of every convolution of a module, summed up."""
    return sum(layer.weight[0].numel() for layer in module.modules() if isinstance(layer, nn.Conv2d))


def _assert_alike(actual: Tensor, expected: Tensor, what: str) -> None:
    __tracebackhide__ = True
    for name, is_now, must_be in (
        ("shape", tuple(actual.shape), tuple(expected.shape)),
        ("dtype", actual.dtype, expected.dtype),
    ):
        if is_now != must_be:
            message = f"{what}: {name} is {is_now}, must be {must_be}"
            raise AssertionError(message)


def _refuse(different: Tensor, actual: Tensor, expected: Tensor, what: str) -> None:
    __tracebackhide__ = True
    if different.any():
        place = tuple(different.nonzero()[0].tolist())
        count = f"{int(different.sum())} of {math.prod(actual.shape)} values differ"
        values = f"is {actual[place].item()}, must be {expected[place].item()}"
        message = f"{what}: {count}; the first, at {place}, {values}"
        raise AssertionError(message)
