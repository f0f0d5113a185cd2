"""Every clause has a check, a test, and a wrong network that it catches before any other; nothing is left over."""

import pytest

from deeplab_spec.spec.clauses import CLAUSES
from tests.support import traceability

NAMES = [clause.id for clause in CLAUSES]
LINES = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in traceability.PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| clause", "| :--"))
]


def test_the_page_has_every_clause_with_its_check_and_its_tests() -> None:
    """And no other: a check or a failing case of no clause is an error too."""
    checks, tests = traceability.checks(), traceability.tests()

    assert [line[0].strip() for line in LINES] == NAMES
    assert set(checks) == set(tests) == set(NAMES)
    for clause, line in zip(CLAUSES, LINES, strict=True):
        assert line[1] == clause.sentence
        assert line[2] == checks[clause.id]
        assert line[3] == traceability.shown(tests[clause.id])


def test_every_clause_has_a_wrong_network() -> None:
    """And says something to it, as the page says; both are made again by the deep tests."""
    assert [line[0] for line in LINES if not (line[4].strip() and line[5].strip())] == []


@pytest.mark.deep
def test_the_page_is_what_is_true() -> None:
    """Every wrong network is judged again."""
    assert f"{traceability.page()}\n" == traceability.PAGE.read_text(encoding="utf-8")
