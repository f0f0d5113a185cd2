"""The pyramid and the decoder against impulses, shifts, ramps and their parts."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import deeplab_spec
from deeplab_spec.reference.aspp import Aspp
from deeplab_spec.reference.decoder import Decoder
from deeplab_spec.reference.document import DeepLab
from deeplab_spec.reference.forward import resize
from deeplab_spec.reference.network import Auxiliary, Head
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.choices import AsppOrder, AuxiliaryHead, HeadConvs, Interpolation, PoolNorm, Projection
from deeplab_spec.spec.head import aspp_rows, auxiliary_rows, decoder_rows
from deeplab_spec.spec.rows import AsppRows
from deeplab_spec.spec.variants import TF_RELEASE, TORCHVISION_RESNET50, Variant
from tests.support.assertions import assert_near, assert_same
from tests.support.property_coverage import covers
from tests.support.strategies import NARROW, cases, channels, narrow, seeds, sides, sizes, variants
from tests.support.weights import make_positive, make_whole, randomise_norms, whole

PUBLISHED = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
"""Rates by output stride, of arXiv:1706.05587 section 3.3 and the authors' release."""


def reach(branch: nn.Module, width: int, rate: int) -> Tensor:
    """Return the offsets, in units of a rate, at which a branch responds to a single bright pixel."""
    side = 2 * rate + 3
    image = torch.zeros(1, width, side, side, dtype=torch.float64)
    image[..., side // 2, side // 2] = 1
    answer = make_positive(branch)(image) - branch(torch.zeros_like(image))
    return (answer[0, 0].nonzero() - side // 2) / rate


def narrow_aspp(variant: Variant, output_stride: int) -> AsppRows:
    """Return the rows of a variant's pyramid at a small width."""
    choices = narrow(variant)
    return aspp_rows(choices, output_stride, choices.backbone_rows(output_stride).channels_out)


OFFSETS = torch.cartesian_prod(torch.arange(-1.0, 2), torch.arange(-1.0, 2))


@covers(Aspp)
@given(case=cases())
@torch.no_grad()
def test_the_branches_answer_to_an_impulse_at_the_published_rates(case: tuple[Variant, int]) -> None:
    """Only a map wider than twice the rate shows nine dots, one rate apart."""
    variant, output_stride = case
    table = narrow_aspp(variant, output_stride)
    pyramid = Aspp(table)
    published = PUBLISHED[16 if variant.reported_output_stride else output_stride]
    for number, rate in enumerate(published, start=1):
        offsets = reach(pyramid.get_submodule(f"atrous{number}"), table.channels_in, rate)
        assert_same(offsets, OFFSETS, f"offsets of branch {number} at output stride {output_stride}")


@covers(DeepLab.ASPP)
@given(width=channels, output_stride=st.sampled_from([8, 16]), size=sizes, seed=seeds)
@torch.no_grad()
def test_the_documents_pyramid_alone_follows_the_output_stride_and_keeps_the_map(
    width: int, output_stride: int, size: tuple[int, int], seed: int
) -> None:
    """Rates 6, 12, 18 or twice that; 256 channels from any number; no negative results."""
    pyramid = DeepLab.ASPP(width, output_stride)
    randomise_norms(pyramid, seed)
    result = pyramid(whole((1, width, *size), seed))
    assert result.shape == (1, 256, *size)
    assert result.min() >= 0
    for number, rate in enumerate(PUBLISHED[output_stride], start=1):
        offsets = reach(pyramid.get_submodule(f"atrous{number}"), width, rate)
        assert_same(offsets, OFFSETS, f"offsets of branch {number}")


@given(case=cases(), shift=st.tuples(st.integers(0, 3), st.integers(0, 3)), seed=seeds)
@torch.no_grad()
def test_a_branch_moves_with_its_input_away_from_the_border(
    case: tuple[Variant, int], shift: tuple[int, int], seed: int
) -> None:
    """A convolution is the same everywhere beyond one rate from the border."""
    variant, output_stride = case
    table = narrow_aspp(variant, output_stride)
    pyramid = Aspp(table)
    make_whole(pyramid, seed)
    for number, rate in enumerate(PUBLISHED[16 if variant.reported_output_stride else output_stride], start=1):
        side = 2 * rate + 4
        features = whole((1, table.channels_in, side + 3, side + 3), seed)
        down, right = shift
        branch = pyramid.get_submodule(f"atrous{number}")
        here = branch(features[..., :side, :side])
        there = branch(features[..., down : down + side, right : right + side])
        inner = slice(rate, side - rate)
        moved = there[..., inner, inner][..., : 4 - down, : 4 - right]
        assert_same(here[..., inner, inner][..., down:, right:], moved, f"branch {number}")


@given(
    variant=variants,
    convs=st.sampled_from([HeadConvs.DENSE, HeadConvs.SEPARABLE]),
    order=st.sampled_from(AsppOrder),
    projection=st.sampled_from(Projection),
    norm=st.sampled_from(PoolNorm),
    resize=st.sampled_from(Interpolation),
    size=sizes,
    seed=seeds,
)
@torch.no_grad()
def test_the_pyramid_concatenates_its_branches_in_order(
    *,
    variant: Variant,
    convs: HeadConvs,
    order: AsppOrder,
    projection: Projection,
    norm: PoolNorm,
    resize: Interpolation,
    size: tuple[int, int],
    seed: int,
) -> None:
    """Branch by branch; every resize fills the map with the pooled pixel."""
    choices = narrow(
        variant, aspp_convs=convs, aspp_order=order, projection=projection, pool_norm=norm, pool_resize=resize
    )
    table = aspp_rows(choices, 16, choices.backbone_rows(16).channels_out)
    pyramid = Aspp(table)
    randomise_norms(pyramid, seed)
    x = whole((2, table.channels_in, *size), seed)
    local = [pyramid.conv1x1(x), *(pyramid.get_submodule(f"atrous{number}")(x) for number in (1, 2, 3))]
    pooled = pyramid.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *size)
    concatenated = torch.cat([pooled, *local] if order is AsppOrder.POOL_FIRST else [*local, pooled], dim=1)
    expected = pyramid.projection(concatenated)
    if pyramid.refinement is not None:
        expected = pyramid.refinement(expected)
    assert_near(pyramid(x), expected, "pyramid", terms=1000)


@covers(Head)
@given(variant=variants, size=sizes, seed=seeds)
@torch.no_grad()
def test_the_head_is_its_decoder_after_its_pyramid(variant: Variant, size: tuple[int, int], seed: int) -> None:
    """With the weights of the network that it is a part of."""
    network = deeplab_spec.build(variant.name, choices={"width": NARROW, "middle_blocks": 1}).eval().double()
    features = whole((2, network.aspp.rows.channels_in, *size), seed)
    low_level = whole((2, network.decoder.rows.low_level.channels_in, 2 * size[0], 2 * size[1]), seed)

    expected = network.decoder(network.aspp(features), low_level)
    assert_same(network.head(features, low_level), expected, "head")


def test_dropout_follows_the_projection_while_training_only() -> None:
    """A tenth of the values is dropped, the others grow by one ninth."""
    choices = replace(TF_RELEASE.choices, width=0.25)
    pyramid = Aspp(aspp_rows(choices, 16, choices.backbone_rows(16).channels_out))
    torch.manual_seed(0)
    x = torch.rand(4, 512, 17, 17)
    results: dict[bool, Tensor] = {}
    for training in (False, True):
        pyramid.eval()
        assert pyramid.dropout is not None
        pyramid.dropout.train(training)
        results[training] = pyramid(x)
    live = results[False] > 0
    dropped = (results[True][live] == 0).double().mean().item()
    assert abs(dropped - 0.1) < 0.01
    kept = results[True] != 0
    assert torch.allclose(results[True][kept], results[False][kept] / 0.9)


def coordinates(rule: Interpolation, before: int, after: int) -> Tensor:
    """Return the position of each sample of a side in pixels of the original side."""
    places = torch.arange(after, dtype=torch.float64)
    match rule:
        case Interpolation.ALIGN_CORNERS:
            return places * ((before - 1) / (after - 1) if after > 1 else 0)
        case Interpolation.HALF_PIXEL:
            return ((places + 0.5) * before / after - 0.5).clamp(0, before - 1)
        case Interpolation.NEAREST:
            return (torch.arange(after) * before // after).double()


@given(rule=st.sampled_from(Interpolation), before=sides, after=sides)
def test_a_resize_of_a_ramp_gives_the_coordinates_of_its_rule(rule: Interpolation, before: int, after: int) -> None:
    """Linear interpolation of a ramp is the coordinate itself."""
    ramp = torch.arange(before, dtype=torch.float64)
    like = torch.zeros(1, 1, after, after)
    expected = coordinates(rule, before, after)
    vertical = resize(ramp[:, None].expand(1, 1, before, before), like, rule)
    horizontal = resize(ramp[None, :].expand(1, 1, before, before), like, rule)
    square = expected.expand(1, 1, after, after)
    assert_near(vertical, square.transpose(2, 3), f"rows under {rule}", terms=16)
    assert_near(horizontal, square, f"columns under {rule}", terms=16)


@given(rule=st.sampled_from(Interpolation), size=sizes, seed=seeds)
def test_a_resize_from_one_pixel_fills_the_map(rule: Interpolation, size: tuple[int, int], seed: int) -> None:
    """Every rule takes the one value; the weights of four neighbours sum to 1."""
    pixel = whole((1, 3, 1, 1), seed)
    filled = resize(pixel, torch.zeros(1, 1, *size), rule)
    assert_near(filled, pixel.expand(-1, -1, *size), f"resize under {rule}", terms=4)


@covers(Decoder)
@given(
    variant=variants,
    decoder=st.sampled_from(c.Decoder),
    order=st.sampled_from(c.DecoderOrder),
    convs=st.sampled_from(c.DecoderConvs),
    logits=st.sampled_from(c.LogitsConv),
    rule=st.sampled_from(Interpolation),
    map_sizes=st.tuples(sizes, sizes),
    seed=seeds,
)
@torch.no_grad()
def test_the_decoder_is_its_parts_in_a_row(
    *,
    variant: Variant,
    decoder: c.Decoder,
    order: c.DecoderOrder,
    convs: c.DecoderConvs,
    logits: c.LogitsConv,
    rule: Interpolation,
    map_sizes: tuple[tuple[int, int], tuple[int, int]],
    seed: int,
) -> None:
    """Resize to the low-level map, concatenate, refine, classify; without low-level features only the last."""
    choices = narrow(
        variant, decoder=decoder, decoder_order=order, decoder_convs=convs, logits_conv=logits, decoder_resize=rule
    )
    module = Decoder(decoder_rows(choices, 5, 3))
    randomise_norms(module, seed)
    x, low_level = whole((2, 8, *map_sizes[0]), seed), whole((2, 5, *map_sizes[1]), seed + 1)

    actual = module(x, low_level)

    expected = x
    if decoder is c.Decoder.LOW_LEVEL:
        assert module.low_level is not None
        low = module.low_level(low_level)
        grown = resize(x, low, rule)
        expected = torch.cat([low, grown] if order is c.DecoderOrder.LOW_FIRST else [grown, low], dim=1)
        for number in range(1, 3):
            if hasattr(module, f"conv{number}"):
                expected = module.get_submodule(f"conv{number}")(expected)
    if logits is not c.LogitsConv.K1_AFTER_RESIZE:
        expected = module.logits(expected)
    assert_near(actual, expected, "decoder", terms=1000)
    assert actual.shape[2:] == (low_level if decoder is c.Decoder.LOW_LEVEL else x).shape[2:]


@covers(Auxiliary)
@given(width=channels, classes=st.integers(1, 5), size=sizes, seed=seeds)
@torch.no_grad()
def test_the_second_head_is_its_two_convolutions_in_a_row(
    width: int, classes: int, size: tuple[int, int], seed: int
) -> None:
    """A quarter of the channels in between; the dropout acts in training only."""
    choices = narrow(TORCHVISION_RESNET50, auxiliary=AuxiliaryHead.FCN)
    table = auxiliary_rows(choices, 4 * width, classes)
    assert table is not None
    module = Auxiliary(table, "tap")
    make_whole(module, seed)
    x = whole((2, 4 * width, *size), seed)
    inner = module.conv(x)
    assert_same(module(x), module.logits(inner), "second head")
    assert inner.shape == (2, width, *size)
    assert module(x).shape == (2, classes, *size)


@covers(DeepLab.Decoder)
@given(width=channels, classes=st.integers(1, 5), map_sizes=st.tuples(sizes, sizes), seed=seeds)
@torch.no_grad()
def test_the_documents_decoder_gives_logits_on_the_low_level_map(
    width: int, classes: int, map_sizes: tuple[tuple[int, int], tuple[int, int]], seed: int
) -> None:
    """48 channels from any number, concatenated after 256, and one 3x3 convolution with a bias."""
    module = DeepLab.Decoder(width, classes)
    randomise_norms(module, seed)
    assert module.logits.conv.weight.shape == (classes, 304, 3, 3)
    assert module.logits.conv.bias is not None
    x, low_level = whole((1, 256, *map_sizes[0]), seed), whole((1, width, *map_sizes[1]), seed)
    assert module.low_level is not None
    low = module.low_level(low_level)
    concatenated = torch.cat([resize(x, low, Interpolation.ALIGN_CORNERS), low], dim=1)
    expected = torch.nn.functional.conv2d(concatenated, module.logits.conv.weight, module.logits.conv.bias, padding=1)
    assert_near(module(x, low_level), expected, "logits", terms=3000)
