"""Printed figures: numbers, units, words and the precision that their digits say."""

import pytest

from deeplab_spec.count.explain.figures import Quantity, read_figures
from deeplab_spec.errors import SpecError

ANY = frozenset(Quantity)
STORED = frozenset({Quantity.STORED})
OPERATIONS = frozenset({Quantity.OPERATIONS})


@pytest.mark.parametrize(
    ("text", "number", "tolerance", "power", "digits", "quantities"),
    [
        ("62.7 M", 62.7, 0.05, 2, 3, ANY),
        ("54.17B", 54.17, 0.005, 3, 4, ANY),
        ("~ 2.75 GMACs", 2.75, 0.005, 3, 3, OPERATIONS),
        ("2.75 G multiply-adds", 2.75, 0.005, 3, 3, OPERATIONS),
        ("41,055,413", 41_055_413, 0.5, 0, 8, ANY),
        ("41_055_413 parameters", 41_055_413, 0.5, 0, 8, STORED),
        ("239 MB", 239, 0.5, 2, 3, STORED),
        ("12.0 MiB", 12, 0.05, 2, 3, STORED),
        ("1.5 million parameters", 1.5, 0.05, 2, 2, STORED),
        ("0.88 B", 0.88, 0.005, 3, 2, ANY),
        ("5.417e10", 54_170_000_000, 5_000_000, 0, 4, ANY),
        ("41,055,000", 41_055_000, 500, 0, 5, ANY),
    ],
)
def test_a_figure_says_its_number_its_precision_and_what_it_may_count(
    text: str, number: float, tolerance: float, power: int, digits: int, quantities: frozenset[Quantity]
) -> None:
    """Half a unit of the last digit is the tolerance; zeros in groups of three may be rounded."""
    (figure,) = read_figures(text)

    assert figure.number == pytest.approx(number, rel=1e-12)
    assert figure.tolerance == pytest.approx(tolerance, rel=1e-12)
    assert (figure.power, figure.digits, figure.quantities) == (power, digits, quantities)


def test_bytes_are_bytes_and_a_binary_unit_is_binary() -> None:
    """Megabytes may be meant in either unit; mebibytes say which."""
    decimal, binary, plain = read_figures("239 MB, 228 MiB and 62.7 M")

    assert (decimal.in_bytes, decimal.binary) == (True, False)
    assert (binary.in_bytes, binary.binary) == (True, True)
    assert (plain.in_bytes, plain.binary) == (False, False)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("62.7 M, 255.1 G", [62.7, 255.1]),
        ("62.7M,255.1G", [62.7, 255.1]),
        ("41,055,413, 54.17B", [41_055_413, 54.17]),
        ("41,055,413; 54.17B", [41_055_413, 54.17]),
        ("62.7 M / 255.1 G", [62.7, 255.1]),
        ("62.7 M and 255.1 G", [62.7, 255.1]),
    ],
)
def test_several_figures_are_told_apart_from_groups_of_digits(text: str, numbers: list[float]) -> None:
    """A comma between three digits is part of a number."""
    assert [figure.number for figure in read_figures(text)] == numbers


@pytest.mark.parametrize("text", ["", "parameters", "62.7 X", "62.7 M M", "1.2.3", "0", "-3 M", "12 quarts", "1e999 M"])
def test_what_is_no_figure_is_refused_with_examples(text: str) -> None:
    """One line says what a figure looks like."""
    with pytest.raises(SpecError, match=r"62\.7 M"):
        read_figures(text)
