"""The helpers that decide the other tests must themselves be able to fail."""

import pytest
import torch

from tests.support.assertions import assert_near, assert_same


def test_assert_same_says_what_is_and_what_must_be() -> None:
    """The message names the value, the count, the place and both numbers."""
    message = r"a map: 1 of 4 values differ; the first, at \(1, 0\), is 3.0, must be 2.0"
    with pytest.raises(AssertionError, match=message):
        assert_same(torch.tensor([[0.0, 1.0], [3.0, 3.0]]), torch.tensor([[0.0, 1.0], [2.0, 3.0]]), "a map")


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (torch.zeros(2), torch.zeros(1), r"shape is \(2,\), must be \(1,\)"),
        (torch.zeros(1), torch.zeros(1).double(), "dtype is torch.float32, must be torch.float64"),
        (torch.tensor([torch.nan]), torch.zeros(1), "is nan, must be 0.0"),
    ],
)
def test_assert_same_refuses_other_shapes_dtypes_and_nans(
    actual: torch.Tensor, expected: torch.Tensor, message: str
) -> None:
    """Broadcasting, casting and nan would otherwise hide a difference."""
    with pytest.raises(AssertionError, match=message):
        assert_same(actual, expected, "a map")


def test_assert_near_allows_rounding_and_no_more() -> None:
    """One unit in the last place of the largest value passes for one term; two do not."""
    one = torch.ones(1, dtype=torch.float64)
    eps = torch.finfo(torch.float64).eps
    assert_near(one + eps, one, "a sum", terms=1)
    with pytest.raises(AssertionError, match="a sum: 1 of 1 values differ"):
        assert_near(one + 2 * eps, one, "a sum", terms=1)
    with pytest.raises(AssertionError, match="is nan"):
        assert_near(one * torch.nan, one, "a sum", terms=1)
