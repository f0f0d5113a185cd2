"""The convolution unit against kernels written out, dense maps and the sizes of the graph."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from deeplab_spec.analysis.sizes import explicit_padding, window_positions
from deeplab_spec.graph.ops import margins
from deeplab_spec.reference.conv import ConvUnit
from deeplab_spec.reference.document import Conv2dLayer
from deeplab_spec.spec import rows
from tests.support.assertions import assert_same
from tests.support.exact_weights import make_whole, whole
from tests.support.property_coverage import covers
from tests.support.strategies import SOURCE, channels, conv_rows, rates, seeds, sides, sizes


def by_hand(row: rows.ConvUnit, unit: ConvUnit, image: Tensor) -> Tensor:
    """Return the unit's result from single taps, in whole numbers."""
    pair = (row.kernel, row.kernel)
    top, bottom, left, right = explicit_padding(
        row.padding, (image.shape[2], image.shape[3]), pair, (row.stride, row.stride), (row.rate, row.rate)
    )
    padded = functional.pad(image, (left, right, top, bottom))
    height = window_positions(image.shape[2], row.kernel, row.stride, row.rate, top + bottom)
    width = window_positions(image.shape[3], row.kernel, row.stride, row.rate, left + right)
    total = torch.zeros(image.shape[0], row.channels_out, height, width, dtype=image.dtype)
    share_in, share_out = row.channels_in // row.groups, row.channels_out // row.groups
    for out in range(row.channels_out):
        for inner in range(share_in):
            source = (out // share_out) * share_in + inner
            for vertical in range(row.kernel):
                for horizontal in range(row.kernel):
                    rows_read = slice(
                        vertical * row.rate, vertical * row.rate + row.stride * (height - 1) + 1, row.stride
                    )
                    columns = slice(
                        horizontal * row.rate, horizontal * row.rate + row.stride * (width - 1) + 1, row.stride
                    )
                    tap = unit.conv.weight[out, inner, vertical, horizontal]
                    total[:, out] += tap * padded[:, source, rows_read, columns]
    if unit.conv.bias is not None:
        total += unit.conv.bias[:, None, None]
    norm = unit.norm
    if norm is not None:
        assert norm.running_mean is not None
        total = (total - norm.running_mean[:, None, None]) * norm.weight[:, None, None] + norm.bias[:, None, None]
    return total.clamp(min=0) if row.activation else total


@covers(ConvUnit)
@given(row=conv_rows(), size=sizes, seed=seeds)
@torch.no_grad()
def test_a_convolution_unit_is_the_sum_of_its_taps(row: rows.ConvUnit, size: tuple[int, int], seed: int) -> None:
    """Kernel, stride, rate, padding, groups, bias, normalisation and ReLU, each from its definition."""
    unit = ConvUnit(row)
    make_whole(unit, seed)
    image = whole((2, row.channels_in, *size), seed)
    assert_same(unit(image), by_hand(row, unit, image), "convolution unit")


@given(row=conv_rows(), size=sizes)
def test_a_convolution_unit_maps_a_side_to_its_ceiling(row: rows.ConvUnit, size: tuple[int, int]) -> None:
    """The padding follows the rate, so only the stride shortens a side, whatever its parity."""
    result = ConvUnit(row).eval()(torch.zeros(1, row.channels_in, *size))
    assert result.shape == (1, row.channels_out, -(-size[0] // row.stride), -(-size[1] // row.stride))


@covers(Conv2dLayer)
@given(
    width=channels, out=channels, kernel=st.sampled_from([1, 3]), rate=rates, bias=st.booleans(), size=sizes, seed=seeds
)
@torch.no_grad()
def test_the_documents_layer_at_a_rate_is_an_ordinary_convolution_with_zeros_between_the_taps(
    *,
    width: int,
    out: int,
    kernel: int,
    rate: int,
    bias: bool,
    size: tuple[int, int],
    seed: int,
) -> None:
    """Padding by the rate keeps the map, and the stuffed kernel is padded by half its extent."""
    padding = rate * (kernel // 2)
    layer = Conv2dLayer(width, out, kernel, padding=padding, dilation=rate, bias=bias)
    make_whole(layer, seed)
    image = whole((1, width, *size), seed)
    extent = rate * (kernel - 1) + 1
    stuffed = torch.zeros(out, width, extent, extent, dtype=torch.float64)
    stuffed[..., ::rate, ::rate] = layer.conv.weight

    actual = layer(image)

    assert actual.shape == (1, out, *size)
    assert layer.norm is not None
    expected = functional.conv2d(image, stuffed, layer.conv.bias, padding=padding)
    assert_same(actual, layer.norm(expected).clamp(min=0), f"layer at rate {rate}")


@given(width=channels, stride=st.integers(2, 4), side=st.integers(1, 19), seed=seeds)
@torch.no_grad()
def test_a_strided_convolution_is_the_dense_one_subsampled(width: int, stride: int, side: int, seed: int) -> None:
    """Explicit padding does not depend on the stride, so the first sample is the same."""
    strided = Conv2dLayer(width, 3, 3, stride=stride, padding=1)
    make_whole(strided, seed)
    dense = Conv2dLayer(width, 3, 3, padding=1).double().eval()
    dense.load_state_dict(strided.state_dict())
    image = whole((1, width, side, side), seed)
    assert_same(strided(image), dense(image)[..., ::stride, ::stride], f"stride {stride}")


def vector_unit(padding: rows.Padding) -> ConvUnit:
    """Return the release's depthwise test: kernel a + b, then a pointwise factor of 1 left out."""
    row = rows.ConvUnit(
        path="vector", channels_in=1, channels_out=1, kernel=3, stride=2, padding=padding, source=SOURCE
    )
    unit = ConvUnit(row).double()
    index = torch.arange(3.0, dtype=torch.float64)
    unit.conv.weight.data = (index[:, None] + index[None, :])[None, None]
    return unit


@pytest.mark.parametrize(
    ("side", "padding", "expected"),
    [
        (4, margins(1), [[14, 43], [43, 84]]),
        (4, "same", [[48, 37], [37, 22]]),
        (5, margins(1), [[14, 43, 34], [43, 84, 55], [34, 55, 30]]),
        (5, "same", [[14, 43, 34], [43, 84, 55], [34, 55, 30]]),
    ],
)
def test_padding_gives_the_releases_own_vectors(side: int, padding: rows.Padding, expected: list[list[int]]) -> None:
    """Even sides tell explicit padding from SAME, odd sides do not."""
    index = torch.arange(float(side), dtype=torch.float64)
    image = (index[:, None] + index[None, :])[None, None]
    actual = vector_unit(padding)(image)
    assert_same(actual, torch.tensor(expected, dtype=torch.float64)[None, None], f"{padding} on side {side}")


@given(side=sides, seed=seeds)
@torch.no_grad()
def test_same_and_explicit_padding_agree_at_stride_2_just_on_odd_sides(side: int, seed: int) -> None:
    """On even sides SAME puts its only row of zeros at the end, so it reads one pixel further on."""
    explicit, same = vector_unit(margins(1)), vector_unit("same")
    image = whole((1, 1, side, side), seed, 1, 9)
    assert bool(torch.equal(explicit(image), same(image))) is (side % 2 == 1)
