"""Every clause has a note that can be read and, where it has code, code that can be parsed."""

import ast

import pytest

from deeplab_spec.spec.clauses import CLAUSES, NOTES


def test_every_clause_has_a_note_and_no_note_is_left_over() -> None:
    """In the order of the clauses."""
    assert list(NOTES) == [clause.id for clause in CLAUSES]


@pytest.mark.parametrize("name", NOTES)
def test_a_note_says_why_and_what_goes_wrong_in_sentences(name: str) -> None:
    """Code parses as Python."""
    note = NOTES[name]

    assert note.why.endswith(".")
    assert note.mistake.endswith(".")
    assert note.mistake != note.why
    ast.parse(note.torch)
