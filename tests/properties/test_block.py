"""Blocks of the backbone against their parts."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from deeplab_spec.reference.block import Block, GateUnit
from deeplab_spec.reference.document import Conv2dLayer, SeparableConv2dLayer, SkipBlock, Xception
from deeplab_spec.reference.document_layers import separable_row
from deeplab_spec.spec import rows
from tests.support.assertions import assert_near, assert_same
from tests.support.by_hand import activated, windows
from tests.support.property_coverage import covers
from tests.support.strategies import block_rows, channels, gate_row, seeds, sizes
from tests.support.weights import make_whole, whole


@covers(Block)
@given(row=block_rows(), size=sizes, seed=seeds)
@torch.no_grad()
def test_a_block_is_its_units_in_a_row_plus_its_skip(row: rows.Block, size: tuple[int, int], seed: int) -> None:
    """The layers before the block feed both paths; only a corrupted skip reads the first unit's ReLU.

    Whole numbers are exact, but for the mean of a window.
    """
    block = Block(row)
    make_whole(block, seed)
    image = whole((1, row.channels_in, *size), seed)
    before = image.clone()
    x = image
    if block.norm is not None:
        x = block.norm(x)
    if row.activation:
        x = x.clamp(min=0)
    skip = x.clamp(min=0) if row.skip_reads_activation else x
    for unit in block.units:
        x = unit(x)
    if row.skip_pool is not None:
        skip = windows(row.skip_pool.op, skip)
    if block.skip is not None:
        skip = block.skip(skip)
    expected = x if row.skip_kind is rows.SkipKind.NONE else activated(x + skip, row.after)

    actual = block(image)

    assert_near(actual, expected, "block", terms=64)
    assert_same(image, before, "the block's input after the call")


@given(width=channels, size=sizes, seed=seeds, corrupted=st.booleans())
@torch.no_grad()
def test_only_a_corrupted_skip_loses_negative_values(
    *, width: int, size: tuple[int, int], seed: int, corrupted: bool
) -> None:
    """The block minus its main path is its input, or the input after the main path's first ReLU."""
    sepconv = separable_row("drawn.sepconv1", (width, width), 3, stride=1, rate=1, padding=1, bias=True, norm=None)
    units = (replace(sepconv, pre_activation=True),)
    row = rows.Block(path="drawn", units=units, skip_kind=rows.SkipKind.IDENTITY, skip_reads_activation=corrupted)
    block = Block(row)
    make_whole(block, seed)
    image = whole((1, width, *size), seed, -9, -1)
    skip = block(image) - next(block.units)(image)
    assert_same(skip, torch.zeros_like(image) if corrupted else image, "what the skip brings")


@covers(GateUnit)
@given(width=channels, squeezed=channels, size=sizes, seed=seeds)
@torch.no_grad()
def test_a_gate_multiplies_every_channel_by_a_factor_of_all_means(
    width: int, squeezed: int, size: tuple[int, int], seed: int
) -> None:
    """Two matrix products with biases, a ReLU between them, and a hard sigmoid at the end."""
    gate = GateUnit(gate_row("drawn", width, squeezed))
    make_whole(gate, seed)
    image = whole((2, width, *size), seed)
    first, second = gate.squeeze.conv, gate.excite.conv
    means = image.mean(dim=(2, 3))
    inner = (means @ first.weight.flatten(1).T + first.bias).clamp(min=0)
    factor = ((inner @ second.weight.flatten(1).T + second.bias) / 6 + 0.5).clamp(0, 1)

    assert_near(gate(image), image * factor[:, :, None, None], "gate", terms=64)


@covers(SkipBlock)
@given(width=channels, size=sizes, seed=seeds, aggregator=st.sampled_from([torch.add, torch.maximum, torch.mul]))
@torch.no_grad()
def test_a_skip_block_aggregates_its_two_paths(
    width: int, size: tuple[int, int], seed: int, aggregator: Callable[..., Tensor]
) -> None:
    """Main path first; without a skip path the input itself is the second operand."""
    main, skip = Conv2dLayer(width, width, 3, padding=1), Conv2dLayer(width, width, 1)
    make_whole(main, seed)
    make_whole(skip, seed + 1)
    image = whole((1, width, *size), seed)
    both = SkipBlock(main, skip, aggregator)
    assert_same(both(image), aggregator(main(image), skip(image)), "two paths")
    assert_same(SkipBlock(main, aggregator=aggregator)(image), aggregator(main(image), image), "a path and the input")


def test_a_skip_blocks_default_aggregator_refuses_two_tensors() -> None:
    """Verbatim from the document: ``torch.cat`` takes a sequence, but gets two arguments."""
    block = SkipBlock(nn.Identity())
    assert block.aggregator is torch.cat
    with pytest.raises(TypeError, match=r"cat\(\)"):
        block(torch.zeros(1, 1, 2, 2))


def test_skip_blocks_share_one_identity() -> None:
    """Verbatim from the document; without weights, sharing changes nothing."""
    assert SkipBlock(nn.Identity()).skip_path is SkipBlock(nn.Identity()).skip_path


def document_block(layers: list[tuple[int, int, int, int]], skip: nn.Module | None) -> SkipBlock:
    """Return a block assembled from the document's smaller layers.

    Args:
        layers: Channels in and out, stride and dilation of each separable layer.
        skip: The convolution of the skip path, or None for the input itself.
    """
    main = nn.Sequential(
        *(
            SeparableConv2dLayer(width, out, 3, stride=stride, padding=rate, dilation=rate)
            for width, out, stride, rate in layers
        )
    )
    return SkipBlock(main, skip or nn.Identity(), torch.add)


def assert_equal_blocks(actual: Block, expected: SkipBlock, size: tuple[int, int], seed: int) -> None:
    """Give both the same weights, in order, and compare their results."""
    make_whole(actual, seed)
    expected.double().eval()
    weights = zip(expected.state_dict(), actual.state_dict().values(), strict=True)
    expected.load_state_dict(dict(weights))
    image = whole((1, actual.row.channels_in, *size), seed)
    assert_same(actual(image), expected(image), type(actual).__name__)


strided = st.tuples(channels, channels, st.booleans()).flatmap(
    lambda drawn: st.tuples(st.just(drawn), st.integers(1, 3) if drawn[2] else st.just(1))
)


@covers(Xception.EntryFlowBlock)
@given(drawn=strided, size=sizes, seed=seeds)
@torch.no_grad()
def test_an_entry_flow_block_is_the_sum_of_three_layers_and_a_convolution(
    drawn: tuple[tuple[int, int, bool], int], size: tuple[int, int], seed: int
) -> None:
    """The last layer and the skip share the stride; atrous, the last layer doubles its dilation."""
    (width, out, atrous), rate = drawn
    stride, last = (1, 2 * rate) if atrous else (2, rate)
    layers = [(width, out, 1, rate), (out, out, 1, rate), (out, out, stride, last)]
    expected = document_block(layers, Conv2dLayer(width, out, 1, stride=stride))
    assert_equal_blocks(Xception.EntryFlowBlock(width, out, dilation=rate, atrous=atrous), expected, size, seed)


@covers(Xception.ExitFlowBlock)
@given(drawn=strided, size=sizes, seed=seeds)
@torch.no_grad()
def test_an_exit_flow_block_widens_in_its_second_layer(
    drawn: tuple[tuple[int, int, bool], int], size: tuple[int, int], seed: int
) -> None:
    """Like a block of the entry flow, but its first layer keeps the channels."""
    (width, out, atrous), rate = drawn
    stride, last = (1, 2 * rate) if atrous else (2, rate)
    layers = [(width, width, 1, rate), (width, out, 1, rate), (out, out, stride, last)]
    expected = document_block(layers, Conv2dLayer(width, out, 1, stride=stride))
    assert_equal_blocks(Xception.ExitFlowBlock(width, out, dilation=rate, atrous=atrous), expected, size, seed)


@covers(Xception.MiddleFlowBlock)
@given(width=channels, rate=st.integers(1, 4), size=sizes, seed=seeds)
@torch.no_grad()
def test_a_middle_flow_block_never_decreases_its_input(width: int, rate: int, size: tuple[int, int], seed: int) -> None:
    """Its main path ends in a ReLU, and its input is added to that."""
    layers = [(width, width, 1, rate)] * 3
    block = Xception.MiddleFlowBlock(width, width, dilation=rate)
    assert_equal_blocks(block, document_block(layers, None), size, seed)
    image = whole((1, width, *size), seed)
    assert (block(image) >= image).all()
