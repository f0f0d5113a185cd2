"""Student's t against printed tables, and intervals of ratios."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.measure.statistics import paired_ratio, student


@pytest.mark.parametrize(
    ("freedom", "tail", "expected"),
    [
        (1, 0.025, 12.7062),
        (1, 0.05, 6.3138),
        (2, 0.025, 4.3027),
        (2, 0.01, 6.9646),
        (5, 0.05, 2.0150),
        (7, 0.005, 3.4995),
        (9, 0.025, 2.2622),
        (29, 0.025, 2.0452),
        (31, 0.025, 2.0395),
    ],
)
def test_students_quantiles_are_those_of_printed_tables(freedom: int, tail: float, expected: float) -> None:
    """Odd and even degrees of freedom, one tail and two."""
    assert student(freedom, tail) == pytest.approx(expected, abs=5e-5)


def test_a_freedom_between_whole_numbers_lies_between_their_quantiles() -> None:
    """Welch's intervals have such degrees of freedom."""
    assert student(5, 0.025) < student(4.5, 0.025) < student(4, 0.025)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=3, max_size=40))
def test_ratio_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    """The interval lies between two of the ratios; from six pairs on its coverage is at least 95 %."""
    base, other = zip(*pairs, strict=True)
    ratios = [first / second for first, second in pairs]

    result = paired_ratio(base, other)

    assert result
    assert min(ratios) <= result.low <= result.median <= result.high <= max(ratios)
    assert result.coverage >= (0.95 if len(pairs) >= 6 else 0.5)


def test_ratio_is_of_pairs() -> None:
    """A machine that becomes slower for both sides changes no ratio; two pairs have no interval."""
    result = paired_ratio([2, 20, 200, 4], [1, 10, 100, 2])

    assert result
    assert (result.median, result.low, result.high) == (2, 2, 2)
    assert paired_ratio([1, 2], [1, 2]) is None
