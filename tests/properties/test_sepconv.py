"""The separable convolution against its two factors."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from deeplab_spec.reference.conv import ConvUnit
from deeplab_spec.reference.document import SeparableConv2d, SeparableConv2dLayer
from deeplab_spec.reference.sepconv import SeparableUnit
from deeplab_spec.spec import rows
from tests.support.assertions import assert_same
from tests.support.exact_weights import make_whole, whole
from tests.support.property_coverage import covers
from tests.support.strategies import channels, rates, seeds, separable_rows, sizes


@covers(SeparableUnit)
@given(row=separable_rows(), size=sizes, seed=seeds)
@torch.no_grad()
def test_a_separable_unit_is_its_two_halves_in_a_row(row: rows.SeparableUnit, size: tuple[int, int], seed: int) -> None:
    """A ReLU where the row has one in front, then the depthwise, then the pointwise unit."""
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
    """Nothing stands between the halves, so kernel and weights multiply; so do the biases."""
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
    """Against the bare convolutions, with the document's normalisation and ReLU put in by hand."""
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
