"""Student's t: its quantiles against printed tables."""

import pytest

from deeplab_spec.measure.statistics import student


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
