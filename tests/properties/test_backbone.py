"""The backbone: sizes, shifts, and one network at every output stride."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deeplab_spec.analysis.receptive_field import receptive_fields
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.reference.backbone import Backbone, BackboneModule
from deeplab_spec.reference.document import Xception
from deeplab_spec.spec.backbones.xception import ActivationPlacement, LowLevelTap, UnstridedRate
from deeplab_spec.spec.choices import StridePadding
from deeplab_spec.spec.network import part, rows
from deeplab_spec.spec.variants import NOTEBOOK, TF_MOBILENET_V2, TF_RELEASE, TF_RESNET50, Variant
from tests.support.assertions import assert_near, assert_same
from tests.support.property_coverage import covers
from tests.support.strategies import cases, narrow, seeds, variants
from tests.support.weights import make_positive, make_sparse, randomise_norms, whole

image_sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))
FEW = settings(max_examples=max(5, settings().max_examples // 3))


@covers(Backbone, BackboneModule)
@given(
    case=cases(),
    tap=st.none() | st.sampled_from(LowLevelTap),
    placement=st.none() | st.sampled_from(ActivationPlacement),
    padding=st.sampled_from(StridePadding),
    size=image_sizes,
)
@torch.no_grad()
def test_features_have_the_sizes_of_the_arithmetic(
    case: tuple[Variant, int],
    tap: LowLevelTap | None,
    placement: ActivationPlacement | None,
    padding: StridePadding,
    size: tuple[int, int],
) -> None:
    """Odd, even and not a multiple: the map is the ceiling, and the attributes tell the channels."""
    variant, output_stride = case
    choices = narrow(variant, stride_padding=padding, middle_blocks=1)
    choices = replace(choices, low_level_tap=tap or choices.low_level_tap)
    choices = replace(choices, activation_placement=placement or choices.activation_placement)
    table = rows(choices, output_stride, 3, variant.reported_output_stride)
    backbone = Backbone(table.backbone).eval()
    graph = part(table, "backbone")
    known = shapes(graph, size)

    features, low_level = backbone(torch.zeros(1, 3, *size))

    assert tuple(features.shape[1:]) == known[graph.tap("backbone")]
    assert tuple(low_level.shape[1:]) == known[graph.tap("low_level")]
    assert features.shape[2:] == tuple(-(-side // output_stride) for side in size)
    assert backbone.output_stride == (16 if variant is NOTEBOOK else output_stride)
    assert backbone.out_channels == features.shape[1]
    assert backbone.low_out_channels == low_level.shape[1]


@given(variant=variants, size=image_sizes, output_stride=st.sampled_from([8, 16]))
@torch.no_grad()
def test_the_low_level_tap_has_stride_4_except_where_the_document_reads_the_stem(
    variant: Variant, size: tuple[int, int], output_stride: int
) -> None:
    """At output stride 8 the document takes "output_stride // 4" literally and splits after the stem."""
    choices = narrow(variant, middle_blocks=1)
    _, low_level = Backbone(choices.backbone_rows(output_stride)).eval()(torch.zeros(1, 3, *size))
    stride = 2 if variant is NOTEBOOK and output_stride == 8 else 4
    assert low_level.shape[2:] == tuple(-(-side // stride) for side in size)


def features_at(variant: Variant, output_strides: tuple[int, ...], seed: int, **choices: object) -> list[Tensor]:
    """Return the features of one image, with one set of whole weights, at several output strides."""
    image = whole((1, 3, 96, 97), seed, -4, 4)
    weights: dict[str, Tensor] = {}
    results = []
    for output_stride in output_strides:
        table = narrow(variant, middle_blocks=2, **choices).backbone_rows(output_stride)
        backbone = make_sparse(Backbone(table), seed, taps=3)
        weights = weights or backbone.state_dict()
        backbone.load_state_dict(weights)
        features, _ = backbone(image)
        results.append(features)
    assert 0 < results[-1].abs().max() < 2**53, "not every sum was exact, or the signal died"
    return results


def assert_consistent(maps: list[Tensor], output_strides: tuple[int, ...]) -> None:
    """Subsample each to the coarsest, where all must agree."""
    coarsest = max(output_strides)
    for features, output_stride in zip(maps, output_strides, strict=True):
        step = coarsest // output_stride
        assert_same(features[..., ::step, ::step], maps[-1], f"features at output stride {output_stride}")


@FEW
@given(seed=seeds)
@torch.no_grad()
def test_the_releases_features_are_one_map_at_every_output_stride(seed: int) -> None:
    """The release's own test: a removed stride keeps its rate, and only later units get the larger one."""
    assert_consistent(features_at(TF_RELEASE, (8, 16, 32), seed), (8, 16, 32))


@pytest.mark.parametrize("variant", [TF_RESNET50, TF_MOBILENET_V2], ids=lambda variant: variant.name)
@settings(max_examples=3)
@given(seed=seeds)
@torch.no_grad()
def test_features_of_the_releases_other_backbones_are_one_map_at_every_output_stride(
    variant: Variant, seed: int
) -> None:
    """Also without Xception: strided in a stage's last unit or in its first, a rate applies after it."""
    strides = (8, 16, 32)
    image = whole((1, 3, 65, 97), seed)
    tables = {stride: narrow(variant, **short(variant)).backbone_rows(stride) for stride in strides}
    coarse = randomise_norms(Backbone(tables[32]), seed)
    expected = coarse(image)[0]
    for stride in strides[:2]:
        fine = Backbone(tables[stride]).double().eval()
        fine.load_state_dict(coarse.state_dict())
        step = 32 // stride
        assert_near(fine(image)[0][..., ::step, ::step], expected, f"output stride {stride}", terms=10_000)


def short(variant: Variant) -> dict[str, object]:
    """Return the choices of a short network of a family."""
    return dict(variant.family.short)


@FEW
@given(seed=seeds)
@torch.no_grad()
def test_the_documents_features_corrected_are_one_map_at_every_output_stride(seed: int) -> None:
    """Without its erratum, that the layer that loses its stride doubles itself."""
    corrected = features_at(NOTEBOOK, (8, 16), seed, unstrided_rate=UnstridedRate.UNCHANGED)
    assert_consistent(corrected, (8, 16))


@torch.no_grad()
def test_the_documents_features_differ_between_its_output_strides() -> None:
    """Its erratum, with weights that show it; with few nonzero taps the two rates may read the same pixels."""
    verbatim = features_at(NOTEBOOK, (8, 16), 1)
    with pytest.raises(AssertionError, match="values differ"):
        assert_consistent(verbatim, (8, 16))


@pytest.mark.parametrize("rule", sorted(set(UnstridedRate) - {UnstridedRate.UNCHANGED}))
@torch.no_grad()
def test_every_other_rule_for_a_removed_stride_changes_the_features(rule: UnstridedRate) -> None:
    """The rule makes the difference, not the variant."""
    features = features_at(TF_RELEASE, (8, 16, 32), 1, unstrided_rate=rule)
    with pytest.raises(AssertionError, match=r"values differ|shape is"):
        assert_consistent(features, (8, 16, 32))


@pytest.mark.parametrize(("variant", "consistent"), [(TF_RELEASE, True), (NOTEBOOK, False)])
@torch.no_grad()
def test_a_backbone_of_full_depth_is_consistent_to_rounding_or_not_at_all(
    variant: Variant,
    consistent: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Sums of one network at two strides differ by their order at most; those of another rule by far more."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 96, 97, dtype=torch.float64)
    fine = randomise_norms(Backbone(narrow(variant).backbone_rows(8)), 0)
    coarse = randomise_norms(Backbone(narrow(variant).backbone_rows(16)), 0)
    coarse.load_state_dict(fine.state_dict())
    subsampled, expected = fine(image)[0][..., ::2, ::2], coarse(image)[0]
    difference = ((subsampled - expected).abs().max() / expected.abs().max()).item()
    assert difference < 1e-12 if consistent else difference > 1e-6


@FEW
@given(case=cases(), seed=seeds)
@torch.no_grad()
def test_features_move_with_the_image_by_the_output_stride(case: tuple[Variant, int], seed: int) -> None:
    """A position whose receptive field is inside both images reads the same pixels in both."""
    variant, output_stride = case
    table = rows(narrow(variant, middle_blocks=1), output_stride, 3)
    graph = part(table, "backbone")
    field = receptive_fields(graph, (512, 512))[graph.tap("backbone")].vertical
    first = -int(field.offset) // output_stride + 1
    side = int(field.extent) + 6 * output_stride
    last = (side - int(field.extent) - int(field.offset)) // output_stride
    assert last > first + 1, "no position lies inside"
    backbone = make_sparse(Backbone(table.backbone), seed)
    image = whole((1, 3, side + output_stride, side), seed, -9, 9)
    here, _ = backbone(image[..., :side, :])
    there, _ = backbone(image[..., output_stride:, :])
    inner = (..., slice(first, last), slice(first, last))
    moved = (..., slice(first + 1, last + 1), slice(first, last))
    assert_same(there[inner][..., :-1, :], here[moved][..., :-1, :], f"features at output stride {output_stride}")


@pytest.mark.parametrize("tap", ["backbone", "low_level"])
@FEW
@given(case=cases(), place=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_the_receptive_field_is_the_gradients_footprint(
    tap: str, case: tuple[Variant, int], place: tuple[int, int]
) -> None:
    """If every layer averages, exactly the pixels of the receptive field have a positive gradient."""
    variant, output_stride = case
    table = rows(narrow(variant, middle_blocks=1), output_stride, 3)
    graph = part(table, "backbone")
    backbone = make_positive(Backbone(table.backbone))
    size = (129, 161)
    image = torch.ones(1, 3, *size, dtype=torch.float64, requires_grad=True)
    value = backbone(image)[0 if tap == "backbone" else 1]
    position = tuple(min(index * side // 3, side - 1) for index, side in zip(place, value.shape[2:], strict=True))
    (gradient,) = torch.autograd.grad(value[0, :, position[0], position[1]].sum(), image)
    footprint = gradient[0].sum(0).nonzero()
    for axis, (field, side) in enumerate(zip(receptive_fields(graph, size)[graph.tap(tap)], size, strict=True)):
        first = int(field.step * position[axis] + field.offset)
        expected = (max(first, 0), min(first + int(field.extent), side) - 1)
        assert field.exact
        assert (int(footprint[:, axis].min()), int(footprint[:, axis].max())) == expected


@cache
def on_meta(output_stride: int) -> Xception:
    """Return the document's backbone without storage for its weights."""
    with torch.device("meta"):
        return Xception(output_stride).eval()


@settings(max_examples=max(5, settings().max_examples // 8))
@covers(Xception)
@given(output_stride=st.sampled_from([8, 16]), size=image_sizes)
@torch.no_grad()
def test_the_documents_backbone_reports_16_and_moves_its_tap(output_stride: int, size: tuple[int, int]) -> None:
    """At full width, on the meta device: only shapes are computed."""
    backbone = on_meta(output_stride)
    features, low_level = backbone(torch.empty(1, 3, *size, device="meta"))
    assert (backbone.output_stride, backbone.out_channels) == (16, 2048)
    assert backbone.low_out_channels == (128 if output_stride == 16 else 64)
    assert features.shape == (1, 2048, *(-(-side // output_stride) for side in size))
    assert low_level.shape == (1, backbone.low_out_channels, *(-(-side // (output_stride // 4)) for side in size))
