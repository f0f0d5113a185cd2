"""A single fault anywhere is found, and the first difference names it."""

from dataclasses import replace

import pytest

from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import align
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, Variant
from tests.support.faults import faults
from tests.support.graphs import narrow_network, narrow_normal, normal

BOTH = pytest.mark.parametrize("variant", [NOTEBOOK, TF_RELEASE], ids=lambda variant: variant.name)

AMBIGUOUS = {
    "notebook": set(),
    "tf-release": {
        "activation lost at backbone.entry_flow.stem.conv2.activation",
        "leaky ReLU at backbone.entry_flow.stem.conv2.activation",
        "ReLU6 at backbone.entry_flow.block1.sepconv1.activation",
    },
}
"""The stem's last ReLU is followed by that of the first block: without the one, the other is left, and
the skip reads the value before it. The two descriptions are the same graph."""


def survivors_and_strays(variant: Variant, output_stride: int, middle_blocks: int) -> tuple[list[str], list[str], int]:
    """Return the faults without a difference, those whose first difference is elsewhere, and how many were tried."""
    choices = replace(variant.choices, middle_blocks=middle_blocks)
    expected = narrow_normal(choices, output_stride)
    found = {
        fault: differences(align(expected, normal(fault.network)))
        for fault in faults(narrow_network(choices, output_stride))
    }
    survivors = [fault.name for fault, aspects in found.items() if not aspects]
    strays = [
        fault.name
        for fault, aspects in found.items()
        if aspects and (aspects[0].path not in fault.paths or aspects[0].attribute != fault.attribute)
    ]
    return survivors, strays, len(found)


@pytest.mark.deep
@BOTH
def test_every_single_fault_is_found_and_named_first(variant: Variant) -> None:
    """Every attribute of every node of a short network, one at a time."""
    survivors, strays, total = survivors_and_strays(variant, 16, middle_blocks=2)

    assert survivors == []
    assert set(strays) == AMBIGUOUS[variant.name]
    assert len(strays) <= 0.01 * total


@pytest.mark.deep
@BOTH
@pytest.mark.parametrize("output_stride", [8, 16])
def test_every_single_fault_of_the_whole_depth_is_found_and_named_first(variant: Variant, output_stride: int) -> None:
    """All sixteen middle blocks: equal blocks are not confused."""
    survivors, strays, total = survivors_and_strays(variant, output_stride, middle_blocks=16)

    assert survivors == []
    assert set(strays) == AMBIGUOUS[variant.name]
    assert len(strays) <= 0.01 * total


@BOTH
def test_a_missing_block_is_one_block(variant: Variant) -> None:
    """The gap is at the bounds of a block, not spread over layers."""
    expected = narrow_normal(replace(variant.choices, middle_blocks=4), 16)
    fewer = narrow_normal(replace(variant.choices, middle_blocks=3), 16)

    missing = align(expected, fewer).missing
    extra = align(fewer, expected).extra

    assert len({path.split(".")[2] for path in missing}) == 1
    assert len(missing) == len(extra)
    assert len(missing) == sum(path.startswith(".".join(missing[0].split(".")[:3])) for path in map(str, missing))
