"""The pyramid against impulses, shifts and its parts."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from deeplab_spec.reference.aspp import Aspp
from deeplab_spec.reference.document import DeepLab
from deeplab_spec.reference.sepconv import SeparableUnit
from deeplab_spec.spec.choices import AsppOrder, HeadConvs, Interpolation, PoolNorm, Projection
from deeplab_spec.spec.head import aspp_rows
from deeplab_spec.spec.variants import TF_RELEASE, Variant
from tests.support.assertions import assert_near, assert_same
from tests.support.exact_weights import make_lively, make_positive, make_whole, whole
from tests.support.property_coverage import covers
from tests.support.strategies import cases, channels, narrow, seeds, sizes, variants

PUBLISHED = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
"""Rates by output stride, of arXiv:1706.05587 section 3.3 and the authors' release."""


def reach(branch: nn.Module, width: int, rate: int) -> Tensor:
    """Return where a branch answers to a single bright pixel, as offsets in units of a rate."""
    side = 2 * rate + 3
    image = torch.zeros(1, width, side, side, dtype=torch.float64)
    image[..., side // 2, side // 2] = 1
    answer = make_positive(branch)(image) - branch(torch.zeros_like(image))
    return (answer[0, 0].nonzero() - side // 2) / rate


OFFSETS = torch.cartesian_prod(torch.arange(-1.0, 2), torch.arange(-1.0, 2))


@covers(Aspp)
@given(case=cases())
@torch.no_grad()
def test_the_branches_answer_to_an_impulse_at_the_published_rates(case: tuple[Variant, int]) -> None:
    """A map wider than twice the rate shows nine dots, one rate apart; nothing less than that does."""
    variant, output_stride = case
    table = aspp_rows(narrow(variant), output_stride)
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
    """Rates 6, 12, 18 or twice that; 256 channels from any number; nothing negative comes out."""
    pyramid = DeepLab.ASPP(width, output_stride)
    make_lively(pyramid, seed)
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
    """A convolution is the same everywhere; padding reaches as far in as the rate."""
    variant, output_stride = case
    table = aspp_rows(narrow(variant), output_stride)
    pyramid = Aspp(table)
    make_whole(pyramid, seed)
    for number, rate in enumerate(PUBLISHED[16 if variant.reported_output_stride else output_stride], start=1):
        side = 2 * rate + 4
        canvas = whole((1, table.channels_in, side + 3, side + 3), seed)
        down, right = shift
        branch = pyramid.get_submodule(f"atrous{number}")
        here = branch(canvas[..., :side, :side])
        there = branch(canvas[..., down : down + side, right : right + side])
        inner = slice(rate, side - rate)
        moved = there[..., inner, inner][..., : 4 - down, : 4 - right]
        assert_same(here[..., inner, inner][..., down:, right:], moved, f"branch {number}")


@given(
    variant=variants,
    convs=st.sampled_from(HeadConvs),
    order=st.sampled_from(AsppOrder),
    projection=st.sampled_from(Projection),
    norm=st.sampled_from(PoolNorm),
    resize=st.sampled_from(Interpolation),
    size=sizes,
    seed=seeds,
)
@torch.no_grad()
def test_the_pyramid_joins_its_branches_in_order(
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
    """Branch by branch; the pooled pixel fills the map whatever resize brings it there."""
    choices = narrow(
        variant, aspp_convs=convs, aspp_order=order, projection=projection, pool_norm=norm, pool_resize=resize
    )
    table = aspp_rows(choices, 16)
    pyramid = Aspp(table)
    make_lively(pyramid, seed)
    x = whole((2, table.channels_in, *size), seed)
    local = [pyramid.conv1x1(x), *(pyramid.get_submodule(f"atrous{number}")(x) for number in (1, 2, 3))]
    pooled = pyramid.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *size)
    joined = torch.cat([pooled, *local] if order is AsppOrder.POOL_FIRST else [*local, pooled], dim=1)
    expected = pyramid.projection(joined)
    if isinstance(pyramid.refinement, SeparableUnit):
        expected = pyramid.refinement(expected)
    assert_near(pyramid(x), expected, "pyramid", terms=1000)


def test_dropout_follows_the_projection_while_training_only() -> None:
    """A tenth of the values is dropped, the others grow by one ninth."""
    choices = replace(TF_RELEASE.choices, width=0.25)
    pyramid = Aspp(aspp_rows(choices, 16))
    torch.manual_seed(0)
    x = torch.rand(4, 512, 17, 17)
    seen: dict[bool, Tensor] = {}
    for training in (False, True):
        pyramid.eval()
        assert pyramid.dropout is not None
        pyramid.dropout.train(training)
        seen[training] = pyramid(x)
    live = seen[False] > 0
    dropped = (seen[True][live] == 0).double().mean().item()
    assert abs(dropped - 0.1) < 0.01
    kept = seen[True] != 0
    assert torch.allclose(seen[True][kept], seen[False][kept] / 0.9)
