"""The decoder against its parts, and the resize against its definition."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deeplab_spec.reference.decoder import Decoder
from deeplab_spec.reference.document import DeepLab
from deeplab_spec.reference.shape import resize
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.choices import Interpolation
from deeplab_spec.spec.head import decoder_rows
from deeplab_spec.spec.variants import Variant
from tests.support.assertions import assert_near
from tests.support.exact_weights import make_lively, whole
from tests.support.property_coverage import covers
from tests.support.strategies import channels, narrow, seeds, sides, sizes, variants


def coordinates(rule: Interpolation, before: int, after: int) -> Tensor:
    """Return where each sample of a side lies in the pixels of the old side."""
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
    """Whatever the rule, there is one value to take; the weights of four neighbours sum to 1."""
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
    """Resize to the low-level map, join, refine, classify; without low-level features only the last."""
    choices = narrow(
        variant, decoder=decoder, decoder_order=order, decoder_convs=convs, logits_conv=logits, decoder_resize=rule
    )
    module = Decoder(decoder_rows(choices, 5, 3))
    make_lively(module, seed)
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


@covers(DeepLab.Decoder)
@given(width=channels, classes=st.integers(1, 5), map_sizes=st.tuples(sizes, sizes), seed=seeds)
@torch.no_grad()
def test_the_documents_decoder_gives_logits_on_the_low_level_map(
    width: int, classes: int, map_sizes: tuple[tuple[int, int], tuple[int, int]], seed: int
) -> None:
    """48 channels from any number, joined behind 256, and one 3x3 convolution with a bias."""
    module = DeepLab.Decoder(width, classes)
    make_lively(module, seed)
    assert module.logits.conv.weight.shape == (classes, 304, 3, 3)
    assert module.logits.conv.bias is not None
    x, low_level = whole((1, 256, *map_sizes[0]), seed), whole((1, width, *map_sizes[1]), seed)
    assert module.low_level is not None
    low = module.low_level(low_level)
    joined = torch.cat([resize(x, low, Interpolation.ALIGN_CORNERS), low], dim=1)
    expected = torch.nn.functional.conv2d(joined, module.logits.conv.weight, module.logits.conv.bias, padding=1)
    assert_near(module(x, low_level), expected, "logits", terms=3000)
