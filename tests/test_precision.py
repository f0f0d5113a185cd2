"""Precisions: what each record says is what the framework's dtypes are."""

import pytest
import torch

from deeplab_spec.errors import RenamedWarning, SpecError
from deeplab_spec.precision import LOWER, OLD_NAMES, PRECISIONS, Precision, read_precision


@pytest.mark.parametrize("precision", [each for each in PRECISIONS if each.arithmetic != "tf32"], ids=lambda p: p.name)
def test_numbers_of_a_precision_are_those_of_its_dtype(precision: Precision) -> None:
    """The framework's own description of the dtype is the witness."""
    dtype = getattr(torch, precision.arithmetic)
    found = torch.finfo(dtype)

    assert (precision.eps, precision.largest, precision.bytes) == (found.eps, found.max, dtype.itemsize)


def test_a_precision_below_float32_keeps_fewer_bits() -> None:
    """So nothing that is exact in one of them is judged with the limits of float32."""
    assert {each.name for each in PRECISIONS if each.bits < 23} == {each.name for each in LOWER}


@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_an_old_name_is_accepted_and_the_new_one_said(old: str, new: str) -> None:
    """One name each; what scripts of earlier releases wrote still works."""
    with pytest.warns(RenamedWarning, match=f"^'{old}' is now called '{new}'$"):
        assert read_precision(old).name == new


def test_an_unknown_precision_is_refused_with_those_that_exist() -> None:
    """One line says where, which rule, and what arrived."""
    with pytest.raises(SpecError, match=r"^--dtype: must be one of float64, .*autocast-float16, but got 'int8'$"):
        read_precision("int8", "--dtype")
