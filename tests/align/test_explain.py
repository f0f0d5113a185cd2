"""A single overridden choice is found, and explains every difference."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_spec.align.differences import differences
from deeplab_spec.align.identify import Explanation, edits, explain
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.ops import Activation, ActivationKind, Dropout
from deeplab_spec.mutate.mutant import inserted, with_inputs, without
from deeplab_spec.spec.choices import Choices, ChoiceValue, choose, names, seen_values
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, Variant
from tests.support.graphs import edited, narrow_network, narrow_normal, normal, with_op
from tests.support.members import XCEPTIONS

NOT_HERE = {"width"}
"""Fixed in these tests: networks are narrow."""

Override = tuple[str, ChoiceValue]

SHORT = replace(TF_RELEASE.choices, middle_blocks=1)
BEFORE = narrow_network(SHORT, 8)
CONV, NORM, RELU = (f"aspp.conv1x1.{kind}" for kind in ("conv", "norm", "activation"))


def explained(choices: Choices, output_stride: int, candidate: Shaped) -> Explanation:
    """Explain a candidate, starting from a set of choices."""
    alignment = align(narrow_normal(choices, output_stride), candidate)
    return explain(choices, lambda other: narrow_normal(other, output_stride), alignment)


def visible(choices: Choices, output_stride: int) -> list[Override]:
    """Return the single overrides that make another network with a difference."""
    found = []
    for name in names(TF_RELEASE.family):
        for value in seen_values(name, TF_RELEASE.family):
            if name in NOT_HERE or value == getattr(choices, name):
                continue
            try:
                candidate = narrow_normal(choose(choices, {name: value}), output_stride)
            except GraphError:
                continue  # maps of two sizes would be added: no network is like this
            if differences(align(narrow_normal(choices, output_stride), candidate)):
                found.append((name, value))
    return found


def refute(choices: Choices, output_stride: int, override: Override) -> str:
    """Return the error in the explanation of an override; empty if it is right."""
    candidate = narrow_normal(choose(choices, dict([override])), output_stride)
    found = explained(choices, output_stride, candidate)
    if found.unexplained:
        return f"{override}: {len(found.unexplained)} differences are left with {dict(found.overrides)}"
    if len(found.overrides) != 1:
        return f"{override}: {dict(found.overrides)}"
    again = narrow_normal(choose(choices, found.overrides), output_stride)
    return "" if align(again, candidate).price == 0 else f"{override}: {dict(found.overrides)} is another network"


EQUIVALENT = {
    ("notebook", 8): {("exit2_rates", (2, 2)), ("aspp_rates", (12, 24, 36))},
    ("notebook", 16): {("unstrided_rate", "lost_last")},
    ("tf-release", 8): {("exit2_rates", (2, 2))},
    ("tf-release", 16): {("low_level_tap", "block1_or_stem")},
}
"""Overrides that give the same network as another override at this output stride: either explains it."""


@st.composite
def overrides(draw: st.DrawFn) -> tuple[Variant, int, Override]:
    """Draw a visible override of a network with two middle blocks."""
    variant = draw(st.sampled_from([NOTEBOOK, TF_RELEASE]), label="variant")
    output_stride = draw(st.sampled_from([8, 16]), label="output stride")
    choices = replace(variant.choices, middle_blocks=2)
    override = draw(
        st.sampled_from(OVERRIDES).filter(lambda item: item[1] != getattr(choices, item[0])), label="override"
    )
    return replace(variant, choices=choices), output_stride, override


OVERRIDES: list[Override] = [
    (name, value)
    for name in names(TF_RELEASE.family)
    for value in seen_values(name, TF_RELEASE.family)
    if name not in NOT_HERE | {"middle_blocks", "atrous_padding", "conv_bias", "entry_blocks"}
]


@settings(max_examples=max(10, settings().max_examples // 3))
@given(case=overrides())
def test_a_single_decision_explains_all_that_it_changes(case: tuple[Variant, int, Override]) -> None:
    """By one override: itself, or another that gives the same network at this output stride."""
    variant, output_stride, override = case
    candidate = narrow_normal(choose(variant.choices, dict([override])), output_stride)
    if differences(align(narrow_normal(variant.choices, output_stride), candidate)):
        assert refute(variant.choices, output_stride, override) == ""


@pytest.mark.deep
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("variant", [NOTEBOOK, TF_RELEASE], ids=lambda variant: variant.name)
def test_every_single_decision_explains_all_that_it_changes(variant: Variant, output_stride: int) -> None:
    """Every known value of every choice that changes the graph, at full depth."""
    found = [override for override in visible(variant.choices, output_stride) if override[0] != "entry_blocks"]
    refuted = [refute(variant.choices, output_stride, override) for override in found]

    assert len(found) > 35
    assert [text for text in refuted if text] == []


@pytest.mark.parametrize(("case", "pairs"), EQUIVALENT.items(), ids=[f"{name}-{stride}" for name, stride in EQUIVALENT])
def test_equivalent_decisions_are_the_same_network(case: tuple[str, int], pairs: set[Override]) -> None:
    """The list of overrides for which another single override is exactly the same normal form."""
    name, output_stride = case
    variant = next(variant for variant in XCEPTIONS if variant.name == name)
    choices = replace(variant.choices, middle_blocks=1)
    for override in pairs:
        expected = narrow_normal(choose(choices, dict([override])), output_stride)
        found = explained(choices, output_stride, expected)
        assert found.unexplained == ()
        assert dict(found.overrides) != dict([override])
        same = narrow_normal(choose(choices, found.overrides), output_stride)
        assert {node.path: node.op for node in same.network} == {node.path: node.op for node in expected.network}


def test_two_decisions_are_both_found() -> None:
    """Differences of both are explained, each by its own choice."""
    choices = replace(TF_RELEASE.choices, middle_blocks=1)
    decided: dict[str, ChoiceValue] = {"backbone_norm_eps": 1e-5, "aspp_rates": (12, 24, 36)}
    found = explained(choices, 16, narrow_normal(choose(choices, decided), 16))

    assert dict(found.overrides) == decided
    assert found.unexplained == ()
    assert set(found.choice_of.values()) == set(decided)


@pytest.mark.parametrize("override", [("aspp_rates", (5, 11, 17)), ("head_norm_eps", 0.25)], ids=str)
def test_numbers_of_the_candidate_alone_are_inferred(override: Override) -> None:
    """Rates and eps are open numbers."""
    choices = replace(TF_RELEASE.choices, middle_blocks=1)
    found = explained(choices, 16, narrow_normal(choose(choices, dict([override])), 16))

    assert dict(found.overrides) == dict([override])
    assert found.unexplained == ()


@pytest.mark.parametrize("count", [2, 4, 5])
def test_any_number_of_middle_blocks_is_inferred(count: int) -> None:
    """Equal blocks may be missing or extra anywhere."""
    choices = replace(TF_RELEASE.choices, middle_blocks=3)
    assert refute(choices, 16, ("middle_blocks", count)) == ""


@pytest.mark.parametrize(
    ("variant", "output_stride"),
    [
        (NOTEBOOK, 8),
        (NOTEBOOK, 16),
        (TF_RELEASE, 8),
        (TF_RELEASE, 16),
    ],
    ids=["notebook-8", "notebook-16", "tf-release-8", "tf-release-16"],
)
def test_a_longer_entry_flow_is_one_decision(variant: Variant, output_stride: int) -> None:
    """Two extra blocks, after which the numbers of the others change."""
    assert refute(replace(variant.choices, middle_blocks=3), output_stride, ("entry_blocks", 5)) == ""


def test_what_no_decision_explains_is_left() -> None:
    """One kernel and one sigmoid that no choice has; the other override is still found."""
    choices = replace(TF_RELEASE.choices, middle_blocks=1)
    graph = narrow_network(choose(choices, {"head_norm_eps": 1e-3}), 16)
    graph = with_op(graph, "decoder.low_level.conv", kernel=(5, 5), padding=(2, 2, 2, 2))
    found = explained(choices, 16, normal(inserted(graph, "decoder.logits.conv")))

    assert dict(found.overrides) == {"head_norm_eps": 1e-3}
    left = [(aspect.path, aspect.attribute) for aspect in found.unexplained]
    assert left == [("decoder.low_level.conv", "kernel"), ("decoder.logits.conv", "node")]


def test_nothing_needs_no_explanation() -> None:
    """Equal networks have no overrides."""
    choices = replace(NOTEBOOK.choices, middle_blocks=1)
    found = explained(choices, 8, narrow_normal(choices, 8))

    assert (dict(found.overrides), dict(found.choice_of), found.unexplained) == ({}, {}, ())


def test_a_graph_has_no_edits_against_itself() -> None:
    """Nothing changes."""
    assert edits(BEFORE, BEFORE) == frozenset()


def test_every_changed_field_is_an_edit() -> None:
    """And no other field."""
    assert edits(BEFORE, with_op(BEFORE, CONV, bias=True)) == {(CONV, "bias")}
    assert edits(BEFORE, with_op(BEFORE, RELU, kind=ActivationKind.ELU, slope=1.0)) == {
        (RELU, "kind"),
        (RELU, "slope"),
    }
    assert edits(BEFORE, with_inputs(BEFORE, NORM, "input")) == {(NORM, "inputs")}


def test_another_operation_is_another_node() -> None:
    """Its fields cannot be compared."""
    other = edited(BEFORE, RELU, lambda node: [replace(node, op=Dropout(probability=0.5))])

    assert edits(BEFORE, other) == {(RELU, "node")}


def test_a_node_that_goes_and_a_node_that_comes() -> None:
    """Their readers have another input; a new node is an edit of the node that it follows."""
    assert edits(BEFORE, without(BEFORE, [RELU])) == {(RELU, "node"), ("aspp.concat", "inputs")}
    more = inserted(BEFORE, NORM, Activation(), path="more")
    assert edits(BEFORE, more) == {("more", "node"), (NORM, "after"), (RELU, "inputs")}


def test_every_visible_choice_edits_the_graph() -> None:
    """A choice without an effect could not be judged: these are not in the graph, or in training only."""
    silent = set()
    for name in names(TF_RELEASE.family):
        graphs = [narrow_network(choose(SHORT, {name: value}), 8) for value in seen_values(name, TF_RELEASE.family)]
        if not any(edits(BEFORE, graph) for graph in graphs):
            silent.add(name)

    assert silent == {"init", "backbone_init", "results", "sizes_accepted", "width"}, "the width is fixed here"
