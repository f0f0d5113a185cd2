"""The drawing is complete, self-contained and without overlaps or cut text, for any network."""

import itertools
from xml.etree import ElementTree as ET

import pytest

from deeplab_spec.show.drawing import drawing, lay_out
from deeplab_spec.show.rows import network_rows
from deeplab_spec.show.shapes import Box, Drawing
from deeplab_spec.spec.api import Subject, usual_size
from deeplab_spec.spec.choices import choose, read_overrides
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, VARIANTS, Variant
from tests.support.members import XCEPTIONS

SVG = "{http://www.w3.org/2000/svg}"
CHARACTER = 7.1
"""Width of an average character of 12 pixels in the widest of the named fonts, in pixels."""

OVERRIDES = (
    (),
    ("decoder=none",),
    ("middle_blocks=8",),
    ("middle_blocks=1",),
    ("entry_blocks=5",),
    ("decoder_convs=none", "low_level_tap=block1"),
    ("low_level_tap=block2_sepconv2_activated",),
    ("low_level_tap=block1_or_stem", "activation_placement=before_split"),
    ("projection=1x1_then_separable", "decoder_dropout=0.5,0.1", "decoder_convs=dense_2", "output_resize=nearest"),
    ("logits_conv=1x1_no_bias_after_resize", "width=0.25", "unstrided_rate=lost_last", "aspp_order=pool_first"),
)


def subjects() -> list[Subject]:
    """Return every variant, and networks with many choices at every output stride."""
    published = [
        Subject(variant=variant, choices=variant.choices, output_stride=stride, size=usual_size(variant, stride))
        for variant in VARIANTS
        for stride in variant.output_strides[-1:]
    ]
    return published + [
        Subject(
            variant=variant,
            choices=choose(variant.choices, read_overrides(overrides, TF_RELEASE.family)),
            output_stride=stride,
            size=(1024, 2048),
            classes=150,
        )
        for variant, overrides in itertools.product((NOTEBOOK, TF_RELEASE), OVERRIDES)
        for stride in variant.output_strides
    ]


SUBJECTS = pytest.mark.parametrize("subject", subjects(), ids=lambda subject: subject.title)


def boxes_overlap(left: Box, right: Box) -> bool:
    """Return whether two boxes share a point."""
    return not (
        left.x + left.width < right.x
        or right.x + right.width < left.x
        or left.bottom < right.y
        or right.bottom < left.y
    )


@SUBJECTS
def test_boxes_do_not_overlap_and_are_inside(subject: Subject) -> None:
    """Boxes are disjoint and inside a panel."""
    drawn = lay_out(subject)

    headings = [
        Box(x=panel.x + 12, y=panel.y + 8, width=100, height=14, lines=(panel.name,), fill="") for panel in drawn.panels
    ]

    for left, right in itertools.combinations((*drawn.boxes, *headings), 2):
        assert not boxes_overlap(left, right), (left.lines, right.lines)
    for box in drawn.boxes:
        assert any(
            panel.x <= box.x
            and panel.y + 12 <= box.y
            and box.x + box.width <= panel.x + panel.width
            and box.bottom <= panel.y + panel.height
            for panel in drawn.panels
        ), box.lines
    assert all(0 <= x <= drawn.width and 0 <= y <= drawn.height for wire in drawn.wires for x, y in wire.points)


@SUBJECTS
def test_text_fits_its_box_and_notes_keep_clear_of_boxes(subject: Subject) -> None:
    """No text crosses an edge."""
    drawn = lay_out(subject)

    for box in drawn.boxes:
        assert max(map(len, box.lines)) * CHARACTER <= box.width, box.lines
    for note in drawn.notes:
        width = len(note.text) * CHARACTER * 0.92
        left = note.x - width if note.anchor == "end" else note.x
        assert left >= 20, note
        assert left + width <= drawn.width, note
        text = Box(x=left, y=note.y - 9, width=width, height=10, lines=(), fill="")
        circles = [Box(x=x - 8, y=y - 8, width=16, height=16, lines=(), fill="") for x, y in drawn.sums]
        assert not any(boxes_overlap(text, box) for box in (*drawn.boxes, *circles)), note
    for one, other in itertools.combinations(drawn.notes, 2):
        assert (one.x, one.y) != (other.x, other.y)


@SUBJECTS
def test_every_row_of_the_network_is_drawn(subject: Subject) -> None:
    """Every row has a box, and the notes have the shapes of the values."""
    drawn = lay_out(subject)
    names = [box.lines[0] for box in drawn.boxes]
    expected = [row.path.removeprefix("backbone.") for row in network_rows(subject)]

    assert sorted(name.partition(",")[0] for name in names) == sorted(expected)
    texts = " ".join(note.text for note in drawn.notes)
    assert "x".join(map(str, network_rows(subject)[-1].output)) in texts
    assert len(drawn.sums) == sum(1 for row in network_rows(subject) if row.skip)
    assert sum(wire.tap for wire in drawn.wires) == (0 if subject.rows().decoder.low_level is None else 1)


def line_of(drawn: Drawing, name: str) -> str:
    """Return the text of a box below its name."""
    return " | ".join(next(box.lines[1:] for box in drawn.boxes if box.lines[0] == name))


def test_rates_and_strides_are_those_of_the_output_stride() -> None:
    """The drawing follows the output stride."""
    at = {
        stride: lay_out(Subject(variant=TF_RELEASE, choices=TF_RELEASE.choices, output_stride=stride))
        for stride in (8, 16, 32)
    }

    assert [line_of(at[stride], "aspp.atrous3") for stride in (8, 16, 32)] == [
        f"separable 3x3 | rate {rate} | 256 channels" for rate in (36, 18, 9)
    ]
    assert line_of(at[16], "entry_flow.block3") == "3 x separable 3x3, 728, 728, 728 | stride 2, rate 1"
    assert line_of(at[8], "middle_flow.block1..16") == "3 x separable 3x3, 728, 728, 728 | stride 1, rate 2"
    notebook = lay_out(Subject(variant=NOTEBOOK, choices=NOTEBOOK.choices))
    assert line_of(notebook, "exit_flow.block1") == "3 x separable 3x3, 728, 1024, 1024 | stride 1, rates 1, 1, 2"


@pytest.mark.parametrize("variant", XCEPTIONS, ids=lambda variant: variant.name)
def test_the_file_is_self_contained(variant: Variant) -> None:
    """It has no external font, script, image or style."""
    root = ET.fromstring(drawing(Subject(variant=variant, choices=variant.choices)))  # noqa: S314 - our own text
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    values = [value for element in root.iter() for value in element.attrib.values()]

    assert tags <= {"svg", "title", "defs", "marker", "style", "rect", "text", "path", "circle"}
    assert not any("://" in value or "data:" in value for value in values)
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == f"DeepLabV3+: {variant.name}, output stride 16, 513\N{MULTIPLICATION SIGN}513, 21 classes"
    assert "aspp.conv1x1" in {element.text for element in root.iter(f"{SVG}text")}
