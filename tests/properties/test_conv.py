"""The convolution units, plain and separable, against explicit kernels, dense maps and the sizes of the graph."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from deeplab_spec.analysis.sizes import SideRule, explicit_padding
from deeplab_spec.graph.ops import margins
from deeplab_spec.reference.conv import ConvUnit, PoolUnit, SeparableUnit
from deeplab_spec.reference.document import Conv2dLayer, SeparableConv2d, SeparableConv2dLayer
from deeplab_spec.spec import rows
from tests.support.assertions import assert_near, assert_same
from tests.support.by_hand import activated, windows
from tests.support.property_coverage import covers
from tests.support.strategies import SOURCE, channels, conv_rows, pool_rows, rates, seeds, separable_rows, sides, sizes
from tests.support.weights import make_whole, whole


def by_hand(row: rows.ConvUnit, unit: ConvUnit, image: Tensor) -> Tensor:
    """Return the unit's result from single taps, in whole numbers."""
    pair = (row.kernel, row.kernel)
    top, bottom, left, right = explicit_padding(
        row.padding, (image.shape[2], image.shape[3]), pair, (row.stride, row.stride), row.rates
    )
    padded = functional.pad(image, (left, right, top, bottom))
    down, across = row.rates
    height = SideRule(top + bottom - down * (row.kernel - 1) - 1, row.stride)(image.shape[2])
    width = SideRule(left + right - across * (row.kernel - 1) - 1, row.stride)(image.shape[3])
    total = torch.zeros(image.shape[0], row.channels_out, height, width, dtype=image.dtype)
    share_in, share_out = row.channels_in // row.groups, row.channels_out // row.groups
    for out in range(row.channels_out):
        for inner in range(share_in):
            source = (out // share_out) * share_in + inner
            for vertical in range(row.kernel):
                for horizontal in range(row.kernel):
                    first, start = vertical * down, horizontal * across
                    rows_read = slice(first, first + row.stride * (height - 1) + 1, row.stride)
                    columns = slice(start, start + row.stride * (width - 1) + 1, row.stride)
                    tap = unit.conv.weight[out, inner, vertical, horizontal]
                    total[:, out] += tap * padded[:, source, rows_read, columns]
    if unit.conv.bias is not None:
        total += unit.conv.bias[:, None, None]
    norm = unit.norm
    if norm is not None:
        assert norm.running_mean is not None
        total = (total - norm.running_mean[:, None, None]) * norm.weight[:, None, None] + norm.bias[:, None, None]
    return activated(total, row.activation)


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


@covers(PoolUnit)
@given(row=pool_rows(), size=sizes, seed=seeds)
def test_a_pooling_unit_reduces_every_window(row: rows.PoolUnit, size: tuple[int, int], seed: int) -> None:
    """Window by window, from its definition; pixels of the margin never win a maximum."""
    image = whole((2, 3, size[0] + 2, size[1] + 2), seed)
    assert_near(PoolUnit(row)(image), windows(row.op, image), "pooling", terms=16)


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
    """On even sides SAME pads one row at the end only, so it reads one pixel further."""
    explicit, same = vector_unit(margins(1)), vector_unit("same")
    image = whole((1, 1, side, side), seed, 1, 9)
    assert bool(torch.equal(explicit(image), same(image))) is (side % 2 == 1)


@covers(SeparableUnit)
@given(row=separable_rows(), size=sizes, seed=seeds)
@torch.no_grad()
def test_a_separable_unit_is_its_two_halves_in_a_row(row: rows.SeparableUnit, size: tuple[int, int], seed: int) -> None:
    """A ReLU if the row has one, then the depthwise, then the pointwise unit."""
    unit = SeparableUnit(row)
    make_whole(unit, seed)
    depthwise, pointwise = ConvUnit(row.depthwise).double().eval(), ConvUnit(row.pointwise).double().eval()
    depthwise.load_state_dict(unit.depthwise.state_dict())
    pointwise.load_state_dict(unit.pointwise.state_dict())
    image = whole((2, row.depthwise.channels_in, *size), seed)
    before = image.clamp(min=0) if row.pre_activation else image
    assert_same(unit(image), pointwise(depthwise(before)), "separable unit")


@covers(SeparableConv2d)
@given(width=channels, out=channels, rate=rates, bias=st.booleans(), size=sizes, seed=seeds)
@torch.no_grad()
def test_a_bare_separable_convolution_is_the_dense_one_of_its_product(
    *,
    width: int,
    out: int,
    rate: int,
    bias: bool,
    size: tuple[int, int],
    seed: int,
) -> None:
    """Nothing is between the two convolutions, so kernels multiply; so do the biases."""
    layer = SeparableConv2d(width, out, 3, padding=rate, dilation=rate, bias=bias)
    make_whole(layer, seed)
    depthwise, pointwise = layer.depthwise.conv, layer.pointwise.conv
    product = pointwise.weight * depthwise.weight.transpose(0, 1)
    offset = pointwise.bias
    assert offset is not None, "the document's flag does not reach the pointwise convolution"
    assert (depthwise.bias is not None) is bias
    if depthwise.bias is not None:
        offset = offset + pointwise.weight[:, :, 0, 0] @ depthwise.bias
    image = whole((1, width, *size), seed)
    expected = functional.conv2d(image, product, offset, padding=rate, dilation=rate)
    assert_same(layer(image), expected, f"separable convolution at rate {rate}")


@covers(SeparableConv2dLayer)
@given(width=channels, out=channels, stride=st.integers(1, 3), size=sizes, seed=seeds)
@torch.no_grad()
def test_a_strided_separable_layer_is_the_dense_one_subsampled(
    width: int, out: int, stride: int, size: tuple[int, int], seed: int
) -> None:
    """The stride belongs to the depthwise half; everything after it works pixel by pixel."""
    strided = SeparableConv2dLayer(width, out, 3, stride=stride, padding=1)
    make_whole(strided, seed)
    dense = SeparableConv2dLayer(width, out, 3, padding=1).double().eval()
    dense.load_state_dict(strided.state_dict())
    image = whole((1, width, *size), seed)
    actual = strided(image)
    assert actual.min() >= 0
    assert_same(actual, dense(image)[..., ::stride, ::stride], f"stride {stride}")


@given(width=channels, out=channels, size=sizes, seed=seeds)
@torch.no_grad()
def test_a_separable_layer_normalises_and_activates_both_halves(
    width: int, out: int, size: tuple[int, int], seed: int
) -> None:
    """Against the bare convolutions, with the document's normalisation and ReLU inserted by hand."""
    layer = SeparableConv2dLayer(width, out, 3, padding=1)
    make_whole(layer, seed)
    x = whole((1, width, *size), seed)
    actual = layer(x)
    for half, groups in ((layer.depthwise, width), (layer.pointwise, 1)):
        assert half.norm is not None
        padding = half.conv.kernel_size[0] // 2
        x = functional.conv2d(x, half.conv.weight, half.conv.bias, padding=padding, groups=groups)
        x = half.norm(x).clamp(min=0)
    assert_same(actual, x, "separable layer")
