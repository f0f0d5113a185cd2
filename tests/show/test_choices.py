"""``choices``: every choice of every family, who does what, and the values that are asked for."""

import json

from deeplab_spec.show import choices as lists
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.errata import ERRATA
from deeplab_spec.spec.variants import FAMILIES, TF_RELEASE, TF_RESNET50, VARIANTS
from deeplab_spec.views.document import to_json, to_schema

ALL = lists.choices_document()


def test_every_choice_of_every_family_is_listed_with_a_value_for_every_variant() -> None:
    """Each variant does exactly one of the values, whatever the family."""
    listed = {(family, choice.name) for choice in ALL.choices for family in choice.families}

    assert listed == {(family.family, name) for family in FAMILIES for name in c.names(family)}
    for choice in ALL.choices:
        doing = sorted(variant for value in choice.values for variant in value.variants)
        assert doing == sorted(entry.name for entry in VARIANTS if entry.family.family in choice.families)


def test_known_values_can_be_given_on_the_command_line() -> None:
    """``written`` is read as the same value."""
    families = {family.family: family for family in FAMILIES}
    for choice in ALL.choices:
        for value in choice.values:
            parsed = c.parse(choice.name, value.written, families[choice.families[0]])
            assert c.plain(parsed) == value.value


def test_a_variant_has_the_choices_of_its_family_and_overrides_count() -> None:
    """The chosen values are those of the options."""
    chosen = c.choose(TF_RELEASE.choices, {"width": 0.125})
    document = lists.choices_document(TF_RELEASE, chosen)

    assert {choice.name: choice.chosen for choice in document.choices} == c.as_json(chosen)
    names = {choice.name for choice in lists.choices_document(TF_RESNET50).choices}
    assert "strided_unit" in names
    assert "entry_blocks" not in names


def test_a_choice_names_its_clauses_and_the_errata_that_it_corrects() -> None:
    """Of its own families only: ``unstrided_rate`` means another thing in each of them."""
    rates = [choice for choice in ALL.choices if choice.name == "unstrided_rate"]

    decided = {family: (choice.clauses[-1], choice.errata) for choice in rates for family in choice.families}
    assert (
        decided.items()
        >= {
            "xception": ("XCEPTION-UNSTRIDED-RATE", ("ERRATUM-UNSTRIDED-RATE",)),
            "resnet": ("BACKBONE-UNSTRIDED-RATE", ()),
            "mobilenet_v2": ("BACKBONE-UNSTRIDED-RATE", ()),
        }.items()
    )
    corrected = {name for choice in ALL.choices for name in choice.errata}
    assert corrected == {erratum.id for erratum in ERRATA if erratum.corrections}


def test_texts_have_every_choice_and_fit_100_columns() -> None:
    """As a list for a terminal, and as a Markdown table."""
    text, table = lists.choices_text(ALL), lists.choices_markdown(ALL)

    assert max(map(len, text.splitlines())) <= 100
    assert len(table.splitlines()) == 2 + len(ALL.choices)
    for choice in ALL.choices:
        assert f"\n{choice.name}  " in f"\n{text}"
        assert f"| `{choice.name}` |" in table


def test_the_document_fits_its_schema_and_can_be_read_again() -> None:
    """A document that is read again is equal."""
    assert lists.ChoicesDocument.model_validate_json(to_json(ALL)) == ALL
    assert json.loads(to_schema(lists.ChoicesDocument))["additionalProperties"] is False
