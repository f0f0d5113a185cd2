"""A network is identified by its graph: the published network and the choices."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Final

import pytest

from deeplab_spec.align.fingerprint import Fingerprints
from deeplab_spec.align.identify import Identity, identify
from deeplab_spec.align.infer_choices import read_width
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.search import Library
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, ActivationKind
from deeplab_spec.mutate.mutant import inserted
from deeplab_spec.spec.choices import Choices, ChoiceValue, choose, names, seen_values
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, Variant
from deeplab_spec.spec.variants import variant as published
from tests.support.faults import faults
from tests.support.graphs import narrow_network, narrow_normal, normal, renamed, with_op
from tests.support.members import XCEPTIONS
from tests.support.strategies import NARROW

Override = tuple[str, ChoiceValue]

STRIDES: Final = (8, 16, 32)
LIBRARIES: Final = {
    output_stride: Library(lambda choices, at=output_stride: narrow_normal(choices, at)) for output_stride in STRIDES
}
"""Networks that are built once for all tests."""

BOTH = pytest.mark.parametrize("variant", [NOTEBOOK, TF_RELEASE], ids=lambda variant: variant.name)
AT = pytest.mark.parametrize("output_stride", [8, 16])


SHORT: Final = {"middle_blocks": 2}
"""A short middle flow: its blocks are alike, and a search with sixteen takes three times as long."""


def identified(candidate: Shaped, output_stride: int, **choices: ChoiceValue) -> Identity:
    """Identify a network among every published one with this output stride, or with other choices."""
    found = identify([candidate], [LIBRARIES[output_stride]], starts(output_stride, **choices))
    assert found is not None
    return found


def starts(*output_strides: int, **choices: ChoiceValue) -> Mapping[str, Choices]:
    """Return the published networks with these output strides."""
    return {
        entry.name: choose(entry.choices, choices)
        for entry in XCEPTIONS
        if set(output_strides) <= set(entry.output_strides)
    }


def overrides(variant: Variant, output_stride: int) -> list[Override]:
    """Return every single decision otherwise than a variant's that is a network at an output stride."""
    return [
        (name, value)
        for name in names(TF_RELEASE.family)
        if name != "width"  # held narrow in these tests
        for value in seen_values(name, TF_RELEASE.family)
        if value != getattr(variant.choices, name)
        and LIBRARIES[output_stride].of(choose(variant.choices, {**SHORT, name: value}))
    ]


def refute(variant: Variant, output_stride: int, decided: Sequence[Override]) -> str:
    """Return the error in the result for a network of some choices; empty if it is right."""
    choices = choose(variant.choices, {**SHORT, **dict(decided)})
    library = LIBRARIES[output_stride]
    expected = library.of(choices)
    if expected is None:
        return ""  # maps of two sizes would be added: no network is like this
    found = identified(library.build(choices), output_stride, **SHORT)
    answer = library.of(choose(starts(output_stride, **SHORT)[found.start], found.overrides))
    same = answer is not None and answer.digest == expected.digest
    if same and not found.distance and not any(found.unexplained) and len(found.overrides) <= len(decided):
        return ""
    return f"{variant.name} {output_stride} {decided}: {found.start} {found.overrides}, distance {found.distance}"


def drawn_pairs(count: int) -> list[tuple[Variant, int, tuple[Override, Override]]]:
    """Draw pairs of decisions about two choices, over both main variants and output strides."""
    cases = [
        (variant, output_stride, pair)
        for variant in (NOTEBOOK, TF_RELEASE)
        for output_stride in (8, 16)
        for pair in combinations(overrides(variant, output_stride), 2)
        if pair[0][0] != pair[1][0]
    ]
    return random.Random(count).sample(cases, count)  # noqa: S311 - the same cases in every run


@pytest.mark.parametrize(
    ("variant", "output_stride"),
    [(entry, output_stride) for entry in XCEPTIONS for output_stride in entry.output_strides],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_published_network_is_itself(variant: Variant, output_stride: int) -> None:
    """Without overrides."""
    found = identified(narrow_normal(variant.choices, output_stride), output_stride)

    assert (found.start, dict(found.overrides), found.distance) == (variant.name, {}, 0)
    assert found.unexplained == ((),)


@pytest.mark.parametrize("output_stride", [16, pytest.param(8, marks=pytest.mark.deep)])
@BOTH
def test_every_single_decision_is_found(variant: Variant, output_stride: int) -> None:
    """By one override at most: it may be another published network, or the override may have no effect.

    A test below finds some of them in networks of full depth.
    """
    found = overrides(variant, output_stride)
    refuted = [refute(variant, output_stride, [override]) for override in found]

    assert len(found) > 55
    assert [text for text in refuted if text] == []


def test_pairs_of_decisions_are_found() -> None:
    """By two overrides at most."""
    refuted = [refute(*case) for case in drawn_pairs(100)]

    assert [text for text in refuted if text] == []


@pytest.mark.deep
def test_a_thousand_pairs_of_decisions_are_found() -> None:
    """More than a seventh of all pairs."""
    refuted = [refute(*case) for case in drawn_pairs(1200)]

    assert [text for text in refuted if text] == []


def test_decisions_that_help_only_together_are_found() -> None:
    """Without a separable convolution the choice has no effect; a bare one equals a pointwise convolution."""
    pair = [("decoder_convs", "separable_1"), ("decoder_depthwise", "bare")]
    typed = [option for option in overrides(NOTEBOOK, 8) if option in pair]

    assert typed == pair
    assert refute(NOTEBOOK, 8, typed) == ""


def test_many_decisions_are_found_at_once() -> None:
    """As many overrides as a typical port has."""
    decided: dict[str, ChoiceValue] = {
        name: next(value for value in seen_values(name, TF_RELEASE.family) if value == text)
        for name, text in {
            "aspp_depthwise": "bare",
            "decoder_depthwise": "bare",
            "decoder_convs": "separable_1",
            "projection": "1x1_then_separable",
            "low_level_tap": "block2_sepconv2_activated",
        }.items()
    }
    decided |= {"aspp_rates": (12, 24, 36), "head_norm_eps": 0.002, "middle_blocks": 5}
    found = identified(narrow_normal(choose(TF_RELEASE.choices, decided), 16), 16)

    assert (found.start, dict(found.overrides), found.distance) == ("tf-release", decided, 0)


def test_names_and_order_of_definition_have_no_effect() -> None:
    """Nodes are renamed, and the branches of sums and concatenations are defined the other way round."""
    graph = narrow_network(choose(NOTEBOOK.choices, {"middle_blocks": 3}), 16)
    numbers = {node.path: f"n{number * 7919 % 1009}" for number, node in enumerate(graph)}
    other = renamed(graph, numbers.__getitem__)
    turned = [
        replace(node, inputs=node.inputs[::-1]) if type(node.op).__name__ in {"Add", "Concat"} else node
        for node in other
    ]
    found = identified(normal(Network(nodes=tuple(turned), taps=other.taps)), 16)

    assert (found.start, dict(found.overrides), found.distance) == ("notebook", {"middle_blocks": 3}, 0)


def test_a_choice_that_shows_at_one_output_stride_only_is_found_there() -> None:
    """At output stride 8 the rates 12, 24 and 36 follow it; at 16 they do not. Only both together distinguish them."""
    together = starts(8, 16)
    for rates in ("follow_output_stride", (12, 24, 36), (6, 12, 18)):
        choices = choose(TF_RELEASE.choices, {"aspp_rates": rates, "exit2_rates": (1, 3)})
        found = identify(
            [narrow_normal(choices, 8), narrow_normal(choices, 16)], [LIBRARIES[8], LIBRARIES[16]], together
        )
        assert found is not None
        expected = {"aspp_rates": rates, "exit2_rates": (1, 3)}
        if rates == TF_RELEASE.choices.aspp_rates:
            del expected["aspp_rates"]
        assert (found.start, dict(found.overrides), found.distance) == ("tf-release", expected, 0)


def test_what_no_choice_explains_is_listed_node_by_node() -> None:
    """One kernel and one function that no choice has; the other override is still found."""
    graph = narrow_network(choose(TF_RELEASE.choices, {"head_norm_eps": 1e-3}), 16)
    graph = with_op(graph, "decoder.low_level.conv", kernel=(5, 5), padding=(2, 2, 2, 2))
    graph = inserted(graph, "decoder.logits.conv", Activation(kind=ActivationKind.SIGMOID))
    found = identified(normal(graph), 16)

    assert (found.start, dict(found.overrides)) == ("tf-release", {"head_norm_eps": 1e-3})
    left = [(aspect.path, aspect.attribute) for aspect in found.unexplained[0]]
    assert left == [("decoder.low_level.conv", "kernel"), ("decoder.logits.conv", "node")]
    assert found.distance == 7  # two nodes and what reads them, on both sides; one has no counterpart


@BOTH
def test_a_single_fault_is_no_choice_and_is_left_at_its_node(variant: Variant) -> None:
    """Rates and margins of one layer do not count for a whole flow."""
    graph = narrow_network(variant.choices, 16)
    path = "backbone.middle_flow.block7.sepconv2.depthwise.conv"
    found = identified(normal(with_op(graph, path, rate=(3, 3), padding=(3, 3, 3, 3))), 16)

    assert (found.start, dict(found.overrides)) == (variant.name, {})
    assert [(aspect.path, aspect.attribute) for aspect in found.unexplained[0]] == [(path, "rate")]


@BOTH
def test_every_single_fault_changes_the_digest(variant: Variant) -> None:
    """Equal digests mean equal networks."""
    choices = replace(variant.choices, middle_blocks=2)
    prints = Fingerprints()
    right = prints.of(narrow_normal(choices, 16)).digest
    tried = faults(narrow_network(choices, 16))[::7]
    for fault in tried:
        assert prints.of(normal(fault.network)).digest != right, fault.name
    assert len(tried) > 50


@pytest.mark.parametrize("name", ["tf-release", "tf-resnet50", "tf-mobilenet-v2", "torchvision-mobilenet-v3-large"])
@pytest.mark.parametrize("width", [1.0, 0.75, 0.35, 0.125, 0.1, 1 / 16, 0.03, NARROW, 1.25])
def test_the_width_is_inferred_from_the_candidate(name: str, width: float) -> None:
    """As the roundest number with the same channels; in MobileNetV3 a concatenation is wider than any convolution."""
    choices = choose(published(name).choices, {"width": width})
    found = read_width(normal(network(choices, 16, 21)), choices.base_channels)

    assert found == width
