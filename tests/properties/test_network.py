"""The assembled networks: any size, any class count, image by image, and every value by name."""

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.graph.ops import Input, Output
from deeplab_spec.reference.document import DeepLab, Xception
from deeplab_spec.reference.forward import Values
from deeplab_spec.reference.network import DeepLabV3Plus, build
from deeplab_spec.spec.api import network
from deeplab_spec.spec.backbones.xception import AtrousPadding
from deeplab_spec.spec.choices import ChoiceValue, names, seen_values, written
from deeplab_spec.spec.variants import TF_RELEASE, Variant
from tests.support.assertions import assert_same
from tests.support.members import XCEPTIONS
from tests.support.property_coverage import covers
from tests.support.strategies import NARROW, cases, seeds
from tests.support.weights import make_sparse, randomise_norms, whole

FEW = settings(max_examples=max(5, settings().max_examples // 3))
image_sizes = st.tuples(st.integers(1, 50), st.integers(1, 50))
SMALL: dict[str, Any] = {"width": NARROW, "middle_blocks": 1}

OVERRIDES = [
    (name, value)
    for name in names(TF_RELEASE.family)
    for value in seen_values(name, TF_RELEASE.family)
    if value is not AtrousPadding.ONE
]
"""Every choice with every value seen for it; a padding of 1 gives maps of two sizes, which cannot be concatenated."""


@FEW
@covers(DeepLabV3Plus)
@given(case=cases(), size=image_sizes, classes=st.integers(1, 4), seed=seeds)
@torch.no_grad()
def test_logits_have_the_size_of_the_image(
    case: tuple[Variant, int], size: tuple[int, int], classes: int, seed: int
) -> None:
    """Odd, even, not a multiple, a single pixel; the image itself is left alone."""
    variant, output_stride = case
    module = randomise_norms(build(variant.name, output_stride, classes, SMALL), seed)
    image = whole((1, 3, *size), seed)
    before = image.clone()
    logits = module(image)
    assert logits.shape == (1, classes, *size)
    assert logits.isfinite().all()
    assert_same(image, before, "the image after the call")


@FEW
@given(case=cases(), size=image_sizes, seed=seeds)
@torch.no_grad()
def test_images_of_a_batch_are_independent(case: tuple[Variant, int], size: tuple[int, int], seed: int) -> None:
    """In evaluation images are independent, so every value is equal bit for bit."""
    variant, output_stride = case
    module = build(variant.name, output_stride, 3, SMALL)
    make_sparse(module, seed)
    images = whole((3, 3, *size), seed)
    together = module.intermediate(images, "backbone", "low_level", "logits")
    for number in range(3):
        alone = module.intermediate(images[number : number + 1], "backbone", "low_level", "logits")
        for name, value in alone.items():
            assert_same(together[name][number : number + 1], value, f"{name} of image {number}")


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda override: f"{override[0]}={written(override[1])}")
@settings(max_examples=max(2, settings().max_examples // 16))
@covers(Values)
@given(case=cases(), size=image_sizes)
@torch.no_grad()
def test_every_node_of_the_graph_is_a_value_with_its_size(
    override: tuple[str, ChoiceValue], case: tuple[Variant, int], size: tuple[int, int]
) -> None:
    """The modules compute the graph's nodes, in its order, under its paths, whatever is chosen."""
    variant, output_stride = case
    choices = {**SMALL, override[0]: override[1], "sizes_accepted": "any"} | {"width": NARROW}
    module = build(variant.name, output_stride, 3, choices).eval()
    graph = network(variant.name, output_stride, 3, choices)

    found = module.intermediate(torch.zeros(1, 3, *size))

    known = shapes(graph, size)
    paths = [node.path for node in graph if not isinstance(node.op, Input | Output)]
    assert [path for path in found if path in graph] == paths
    assert {path: tuple(found[path].shape[1:]) for path in paths} == {path: known[path] for path in paths}
    for name, path in graph.taps:
        assert_same(found[name], found[path], f"tap {name}")


@FEW
@given(case=cases())
def test_weights_move_between_output_strides(case: tuple[Variant, int]) -> None:
    """The module tree never changes; only the document's moving tap changes the shape of its projection."""
    variant, output_stride = case
    ours = build(variant.name, output_stride, 3, SMALL).state_dict()
    for other in variant.output_strides:
        theirs = build(variant.name, other, 3, SMALL)
        assert list(theirs.state_dict()) == list(ours)
        moved = {name for name, value in theirs.state_dict().items() if value.shape != ours[name].shape}
        tap_moves = variant is XCEPTIONS[0] and other != output_stride
        assert moved == ({"decoder.low_level.conv.weight"} if tap_moves else set())
        if not moved:
            theirs.load_state_dict(ours)


@cache
def on_meta(output_stride: int) -> Xception:
    """Return the document's backbone without storage for its weights."""
    with torch.device("meta"):
        return Xception(output_stride).eval()


@settings(max_examples=max(5, settings().max_examples // 8))
@covers(DeepLab)
@given(output_stride=st.sampled_from([8, 16]), size=image_sizes, classes=st.integers(1, 30))
@torch.no_grad()
def test_the_documents_network_keeps_its_rates_at_every_output_stride(
    output_stride: int, size: tuple[int, int], classes: int
) -> None:
    """Erratum of the document: its backbone always reports 16, and the pyramid uses it."""
    with torch.device("meta"):
        module = DeepLab(on_meta(output_stride), classes).eval()
        assert module(torch.empty(1, 3, *size)).shape == (1, classes, *size)
    assert [unit.conv.dilation[0] for unit in (module.aspp.atrous1, module.aspp.atrous2, module.aspp.atrous3)] == [
        6,
        12,
        18,
    ]
