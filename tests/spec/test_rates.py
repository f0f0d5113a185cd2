"""Strides and rates at every output stride, against the published tables."""

from collections.abc import Iterable

import pytest

from deeplab_spec.errors import SpecError
from deeplab_spec.spec.network import check_output_stride, rows
from deeplab_spec.spec.rows import Block, SkipKind, first_conv
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, Variant

ONES, TWOS, FOURS = (1, 1, 1), (2, 2, 2), (4, 4, 4)

# fmt: off
TABLE = (
    # variant, output stride: strides of entry 1..3 and exit 1; rates of entry 3, middle, exit 1, exit 2; pyramid
    (NOTEBOOK,   16, (2, 2, 2, 1), (ONES,      ONES, (1, 1, 2), TWOS),  (6, 12, 18)),
    (NOTEBOOK,    8, (2, 2, 1, 1), ((1, 1, 2), TWOS, (2, 2, 4), FOURS), (6, 12, 18)),
    (TF_RELEASE, 32, (2, 2, 2, 2), (ONES,      ONES, ONES,      ONES),  (3, 6, 9)),
    (TF_RELEASE, 16, (2, 2, 2, 1), (ONES,      ONES, ONES,      TWOS),  (6, 12, 18)),
    (TF_RELEASE,  8, (2, 2, 1, 1), (ONES,      TWOS, TWOS,      FOURS), (12, 24, 36)),
)
# fmt: on


def rates(block: Block) -> tuple[int, ...]:
    """Return the rates of a block's layers."""
    return tuple(first_conv(unit).rates[0] for unit in block.units)


def flow(blocks: Iterable[Block], name: str) -> tuple[Block, ...]:
    """Return the blocks of one flow."""
    return tuple(block for block in blocks if f".{name}." in block.path)


@pytest.mark.parametrize(("variant", "output_stride", "strides", "expected", "pyramid"), TABLE)
def test_strides_and_rates_are_those_of_the_tables(
    variant: Variant,
    output_stride: int,
    strides: tuple[int, ...],
    expected: tuple[tuple[int, ...], ...],
    pyramid: tuple[int, ...],
) -> None:
    """The tables come from the document and the authors' release."""
    table = rows(variant.choices, output_stride, 21)
    entry, middle, last = (flow(table.backbone.blocks, f"{name}_flow") for name in ("entry", "middle", "exit"))
    strided = (*entry, last[0])
    blocks = (entry[2], middle[0], *last)

    assert tuple(first_conv(block.units[-1]).stride for block in strided) == strides
    assert tuple(map(rates, blocks)) == expected
    assert {rates(block) for block in middle} == {expected[1]}
    found = tuple(first_conv(row).rate for row in table.aspp.atrous)
    assert found == pyramid


@pytest.mark.parametrize(("variant", "output_stride"), [entry[:2] for entry in TABLE])
def test_only_last_layers_and_skips_have_strides_and_both_the_same(variant: Variant, output_stride: int) -> None:
    """A block subsamples once on each of its paths."""
    table = rows(variant.choices, output_stride, 21)
    reached = table.backbone.stem[0].stride
    for block in table.backbone.blocks:
        *first, last = (first_conv(unit).stride for unit in block.units)
        assert set(first) == {1}
        if block.skip:
            assert block.skip.stride == last
        assert (block.skip_kind is SkipKind.IDENTITY) == (".middle_flow." in block.path)
        reached *= last
    assert reached == output_stride


@pytest.mark.parametrize(("variant", "output_stride"), [entry[:2] for entry in TABLE])
def test_padding_of_a_3x3_convolution_is_its_rate(variant: Variant, output_stride: int) -> None:
    """It keeps the size of the map at stride 1, for every rate."""
    for block in rows(variant.choices, output_stride, 21).backbone.blocks:
        for unit in block.units:
            assert unit.depthwise.padding == (unit.depthwise.rate,) * 4


def test_reported_output_stride_of_the_document_is_16_at_8() -> None:
    """ERRATUM-REPORTED-OUTPUT-STRIDE."""
    table = rows(NOTEBOOK.choices, 8, 21, NOTEBOOK.reported_output_stride)

    assert (table.backbone.output_stride, table.backbone.reported_output_stride) == (8, 16)
    assert rows(TF_RELEASE.choices, 8, 21).backbone.reported_output_stride == 8


def test_output_strides_that_do_not_exist_are_refused() -> None:
    """The message lists the allowed ones."""
    with pytest.raises(SpecError, match="output_stride: notebook has output strides 8, 16, but got 32"):
        check_output_stride(NOTEBOOK, 32)
    with pytest.raises(SpecError, match="output_stride: must be 8, 16 or 32, but got 12"):
        rows(TF_RELEASE.choices, 12, 21)
    with pytest.raises(SpecError, match="num_classes: must be 1 or more, but got 0"):
        rows(TF_RELEASE.choices, 16, 0)
