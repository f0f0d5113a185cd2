"""Tables and text: complete, readable at 100 columns, and escaped where needed."""

import io

import pytest
from rich.console import Console

from deeplab_spec.analysis.subject import Subject
from deeplab_spec.count import text as counts
from deeplab_spec.count.document import FieldModel, count_document
from deeplab_spec.show import text as texts
from deeplab_spec.show.document import clauses_document
from deeplab_spec.show.rows import outline
from deeplab_spec.spec.choices import choose, read_overrides
from deeplab_spec.spec.clauses import CLAUSES
from deeplab_spec.spec.errata import ERRATA
from deeplab_spec.spec.variants import NOTEBOOK, VARIANTS, Variant
from deeplab_spec.views.table import Grid, drawn, markdown, plain

WIDE = 100


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_tables_fit_100_columns(variant: Variant, output_stride: int) -> None:
    """A table that wraps cannot be read; paths are up to 57 characters."""
    subject = Subject(variant=variant, choices=variant.choices, output_stride=output_stride)
    grids = [
        texts.show_grid(outline(subject)),
        counts.count_grid(count_document(subject)),
        counts.count_grid(count_document(subject, by_node=True)),
    ]
    for grid in grids:
        assert max(map(len, plain(grid).splitlines())) <= WIDE
    assert max(map(len, texts.clauses_text(clauses_document(variant)).splitlines())) <= WIDE


def test_show_lists_every_block_once_and_the_middle_flow_in_one_row() -> None:
    """Sixteen equal rows say less than one."""
    subject = Subject(variant=NOTEBOOK, choices=NOTEBOOK.choices)
    counted = [block.path for block in count_document(subject).blocks]
    shown = [row.path for row in outline(subject)]
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
    """The outline is made from rows, the count from the graph: they must name the same blocks."""
    choices = choose(NOTEBOOK.choices, read_overrides([override, "middle_blocks=1", "aspp_dropout=0.1"]))
    subject = Subject(variant=NOTEBOOK, choices=choices)

    assert [row.path for row in outline(subject)] == [block.path for block in count_document(subject).blocks]


def test_a_drawn_table_has_the_cells_of_the_plain_one() -> None:
    """A terminal and a pipe show the same numbers."""
    grid = counts.count_grid(count_document(Subject(variant=NOTEBOOK, choices=NOTEBOOK.choices)))
    stream = io.StringIO()
    Console(file=stream, width=WIDE).print(drawn(grid))
    cells = [line.split() for line in stream.getvalue().splitlines() if line.strip(" \u2500")]

    assert cells == [line.split() for line in plain(grid).splitlines() if line.strip(" -")]


def test_markdown_escapes_what_would_end_a_cell() -> None:
    """A bar or a line end inside a cell would break the table."""
    text = markdown(Grid(headers=("a",), rows=(("x|y\nz",),)))

    assert text.splitlines() == ["| a |", "| :--- |", "| x\\|y z |"]


def test_clauses_as_markdown_have_a_row_for_each() -> None:
    """Headings and rules apart, the tables hold clauses and errata and nothing else."""
    lines = texts.clauses_markdown(clauses_document(NOTEBOOK)).splitlines()
    ids = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]

    wanted = [clause.id for clause in CLAUSES] + [erratum.id for erratum in ERRATA]
    assert [name for name in ids if name.isupper()] == wanted


@pytest.mark.parametrize(
    ("extent", "whole", "exact", "text"),
    [
        ((19, 19), False, True, "19"),
        ((19, 21), False, True, "19x21"),
        ((7.5, 7.5), False, False, "<=7.5"),
        ((513, 513), True, True, "image"),
    ],
)
def test_a_field_says_whether_it_is_exact(extent: tuple[float, float], whole: bool, exact: bool, text: str) -> None:  # noqa: FBT001 - rows of the table
    """A bound must not be read as a size."""
    field = FieldModel(extent=extent, step=(1, 1), offset=(0, 0), whole_image=whole, exact=exact)

    assert counts.field_text(field) == text
