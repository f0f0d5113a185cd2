"""``show`` and ``clauses``: complete, readable at 100 columns, and documents with every node and clause."""

import json

import pytest

from deeplab_spec.count import text as counts
from deeplab_spec.count.document import CountDocument, count_document
from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.show import text as texts
from deeplab_spec.show.document import ClausesDocument, ShowDocument, clauses_document, show_document
from deeplab_spec.show.rows import network_rows
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import choose, read_overrides
from deeplab_spec.spec.clauses import CLAUSES, clauses_of
from deeplab_spec.spec.errata import ERRATA
from deeplab_spec.spec.variants import HF_MOBILENET_V2, NOTEBOOK, TF_RELEASE, Variant
from deeplab_spec.views.document import to_json, to_schema
from deeplab_spec.views.table import plain
from tests.support.members import XCEPTIONS

WIDE = 100


def subject_of(variant: Variant) -> Subject:
    """Return a variant's network at its default size."""
    return Subject(variant=variant, choices=variant.choices)


@pytest.mark.parametrize("variant", XCEPTIONS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_tables_fit_100_columns(variant: Variant, output_stride: int) -> None:
    """A wrapped table cannot be read; paths have up to 57 characters."""
    subject = Subject(variant=variant, choices=variant.choices, output_stride=output_stride)
    grids = [
        texts.show_grid(network_rows(subject)),
        counts.count_grid(count_document(subject)),
        counts.count_grid(count_document(subject, by_node=True)),
    ]
    for grid in grids:
        assert max(map(len, plain(grid).splitlines())) <= WIDE
    assert max(map(len, texts.clauses_text(clauses_document(variant)).splitlines())) <= WIDE


def test_show_lists_every_block_once_and_the_middle_flow_in_one_row() -> None:
    """The sixteen equal blocks are one row."""
    subject = Subject(variant=NOTEBOOK, choices=NOTEBOOK.choices)
    counted = [block.path for block in count_document(subject).blocks]
    shown = [row.path for row in network_rows(subject)]
    middle = [path for path in counted if ".middle_flow." in path]

    assert len(middle) == 16
    assert shown == [path for path in counted if path not in middle[1:]] or shown.index(
        "backbone.middle_flow.block1..16"
    ) == counted.index(middle[0])
    assert set(counted) - set(middle) == set(shown) - {"backbone.middle_flow.block1..16"}


@pytest.mark.parametrize(
    "override",
    ["decoder=none", "projection=1x1_then_separable", "logits_conv=1x1_no_bias_after_resize", "entry_blocks=5"],
)
def test_show_has_the_blocks_of_any_choice_in_the_order_of_the_graph(override: str) -> None:
    """``show`` uses the rows of the specification, ``count`` the graph; both name the same blocks."""
    choices = choose(
        NOTEBOOK.choices, read_overrides([override, "middle_blocks=1", "aspp_dropout=0.1"], TF_RELEASE.family)
    )
    subject = Subject(variant=NOTEBOOK, choices=choices)

    assert [row.path for row in network_rows(subject)] == [block.path for block in count_document(subject).blocks]


XCEPTIONS_CLAUSES = clauses_of(None, "xception", on_request=True)


def test_clauses_as_markdown_have_a_row_for_each() -> None:
    """The tables have all clauses and errata, and nothing else."""
    lines = texts.clauses_markdown(clauses_document(NOTEBOOK)).splitlines()
    ids = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]

    expected = [clause.id for clause in XCEPTIONS_CLAUSES] + [erratum.id for erratum in ERRATA]
    assert [name for name in ids if name.isupper()] == expected


def test_documents_fit_their_schemas_and_can_be_read_again() -> None:
    """A document that is read again is equal."""
    for document in (
        count_document(subject_of(NOTEBOOK), by_node=True),
        show_document(subject_of(TF_RELEASE)),
        clauses_document(NOTEBOOK),
    ):
        assert type(document).model_validate_json(to_json(document)) == document
    for model in (CountDocument, ShowDocument, ClausesDocument):
        schema = json.loads(to_schema(model))
        assert schema["properties"]["schema_version"]["const"] == 1
        assert schema["additionalProperties"] is False


def test_show_holds_every_node_with_its_numbers() -> None:
    """The document is the whole graph."""
    graph = subject_of(TF_RELEASE).network()
    document = show_document(subject_of(TF_RELEASE))

    assert [node.path for node in document.nodes] == [node.path for node in graph]
    for node in document.nodes:
        assert node.inputs == graph[node.path].inputs
        if node.op == "Conv2d":
            attributes = {
                name: tuple(value) if isinstance(value, list) else value for name, value in node.attributes.items()
            }
            assert Conv2d(**attributes) == graph[node.path].op
    assert document.taps == dict(graph.taps)


def test_clauses_are_those_of_the_variants_family_with_its_errata() -> None:
    """Choices have values if a variant is given; without one, every clause is listed."""
    without, notebook, release = map(clauses_document, (None, NOTEBOOK, TF_RELEASE))
    library = clauses_document(HF_MOBILENET_V2)

    assert [clause.id for clause in release.clauses] == [clause.id for clause in XCEPTIONS_CLAUSES]
    assert {"BACKBONE-LAYERS", "AUXILIARY-HEAD"} <= {clause.id for clause in library.clauses}
    assert not any(clause.id.startswith("XCEPTION") for clause in library.clauses)
    assert [erratum.id for erratum in library.errata] == ["ERRATUM-HF-MOMENTUM", "ERRATUM-HF-DROPOUT"]
    assert [clause.id for clause in without.clauses] == [clause.id for clause in CLAUSES]
    assert [erratum.id for erratum in notebook.errata] == [erratum.id for erratum in ERRATA]
    assert without.errata == release.errata == ()
    rates = {
        document.variant: clause.choices["aspp_rates"]
        for document in (without, notebook, release)
        for clause in document.clauses
        if clause.id == "ASPP-RATES"
    }
    assert rates == {None: None, "notebook": [6, 12, 18], "tf-release": "follow_output_stride"}
