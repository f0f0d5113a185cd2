"""The JSON document of ``count``: its contract, and that it agrees with the analysis."""

import json

import pytest

from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.count import text as counts
from deeplab_spec.count.document import FieldModel, count_document
from deeplab_spec.errors import SpecError
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import Decoder, SizesAccepted, choose
from deeplab_spec.spec.variants import NOTEBOOK, Variant
from deeplab_spec.views.document import to_json
from tests.support.members import XCEPTIONS


def subject(variant: Variant = NOTEBOOK, **arguments: object) -> Subject:
    """Return a variant's network."""
    return Subject(variant=variant, choices=variant.choices, **arguments)  # type: ignore[arg-type]


def test_the_document_has_the_fields_of_its_contract() -> None:
    """Other programs read these names."""
    data = json.loads(to_json(count_document(subject())))

    assert list(data) == [
        *("schema_version", "target", "variant", "choices", "output_stride", "size", "classes"),
        *("convention", "mode", "scales", "flip", "total", "blocks"),
        *("published", "prediction", "notes"),
    ]
    assert (data["schema_version"], data["variant"], data["convention"], data["mode"]) == (
        1,
        "notebook",
        "mac",
        "forward",
    )
    assert (data["output_stride"], data["size"], data["classes"]) == (16, [513, 513], 21)
    assert data["total"] == {
        "parameters": 53_559_805,
        "buffers": 187_856,
        "macs": 65_972_773_424,
        "flops": 132_708_264_200,
        "bytes_read": 2_482_680_052,
        "bytes_written": 2_158_768_040,
        "bytes_kept": 1_447_660_204,
        "bytes_live": 87_700_748,
        "intensity": 28.592,
        "trainable": 53_559_805,
        "folded_parameters": 53_371_949,
        "dead_biases": 93_928,
        "peak_bytes": 302_691_392,
        "operators": {"conv": 65_972_773_424},
        "skipped": {},
    }
    block = next(entry for entry in data["blocks"] if entry["path"] == "backbone.entry_flow.block1")
    assert block["output"] == [128, 129, 129]
    assert block["receptive_field"] == {
        "extent": [19, 19],
        "step": [4, 4],
        "offset": [-9, -9],
        "whole_image": False,
        "exact": True,
    }


@pytest.mark.parametrize("variant", XCEPTIONS, ids=lambda variant: variant.name)
def test_blocks_and_nodes_add_up_to_the_totals(variant: Variant) -> None:
    """Blocks, nodes, totals and the compiled evaluator agree."""
    document = count_document(subject(variant, size=(300, 421), classes=5), by_node=True)
    totals = Evaluator(subject(variant, classes=5).network())(300, 421)

    assert document.nodes
    for costs in (document.blocks, document.nodes):
        assert sum(cost.parameters for cost in costs) == document.total.parameters == totals.sizes.parameters
        assert sum(cost.buffers for cost in costs) == document.total.buffers == totals.sizes.buffers
        assert sum(cost.macs for cost in costs) == document.total.macs == totals.operations


def test_choices_of_a_document_include_the_overrides() -> None:
    """All choices are listed, not only the overrides."""
    choices = choose(NOTEBOOK.choices, {"decoder": Decoder.NONE})
    document = count_document(Subject(variant=NOTEBOOK, choices=choices))

    assert document.choices["decoder"] == "none"
    assert not any(block.path.startswith("decoder.low_level") for block in document.blocks)


def test_an_invalid_subject_is_rejected() -> None:
    """Each error names the rule of the option."""
    multiples = choose(NOTEBOOK.choices, {"sizes_accepted": SizesAccepted.MULTIPLES})

    with pytest.raises(SpecError, match="size: height and width must be multiples of 16"):
        Subject(variant=NOTEBOOK, choices=multiples)
    with pytest.raises(SpecError, match="size: height and width must be 1 or more"):
        subject(size=(0, 5))
    with pytest.raises(SpecError, match="classes: must be 1 or more"):
        subject(classes=0)
    with pytest.raises(SpecError, match="output_stride: notebook has output strides 8, 16"):
        subject(output_stride=32)
    assert Subject(variant=NOTEBOOK, choices=multiples, size=(512, 64)).title == (
        "notebook with sizes_accepted=multiples_of_output_stride, output stride 16, 512x64, 21 classes"
    )


@pytest.mark.parametrize(
    ("extent", "whole", "exact", "text"),
    [
        ((19, 19), False, True, "19"),
        ((19, 21), False, True, "19x21"),
        ((7.5, 7.5), False, False, "<=7.5"),
        ((513, 513), True, True, "image"),
    ],
)
def test_a_bound_of_a_field_is_marked(extent: tuple[float, float], text: str, *, whole: bool, exact: bool) -> None:
    """A bound must not be taken for a size."""
    field = FieldModel(extent=extent, step=(1, 1), offset=(0, 0), whole_image=whole, exact=exact)

    assert counts.field_text(field) == text
