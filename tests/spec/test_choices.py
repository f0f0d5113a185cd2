"""Choices: their values on the command line, and the effect of each on the network."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.errors import GraphError, SpecError
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.backbones import xception as x
from deeplab_spec.spec.backbones.xception import BASE_CHANNELS
from deeplab_spec.spec.layer_choices import scaled_channels
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import (
    FAMILIES,
    NOTEBOOK,
    TF_RELEASE,
    VARIANTS,
    Variant,
    variant,
)
from tests.support.members import VARIANT_NAMES, XCEPTIONS

SEEN = [(name, value) for name in c.names(TF_RELEASE.family) for value in c.seen_values(name, TF_RELEASE.family)]
UNION = {name for family in FAMILIES for name in c.names(family)}
BASES = {entry.family: entry for entry in reversed(VARIANTS)}
"""A variant of each family."""
SEEN_IN_FAMILIES = [
    pytest.param(family, name, value, id=f"{family.family}-{name}-{c.written(value)}")
    for family in FAMILIES
    for name in c.names(family)
    for value in c.seen_values(name, family)
]
SMALLER_MAPS = ("atrous_padding", x.AtrousPadding.ONE)


@pytest.mark.parametrize(("family", "name", "value"), SEEN_IN_FAMILIES)
def test_every_seen_value_is_read_as_it_is_written(family: type[c.Choices], name: str, value: c.ChoiceValue) -> None:
    """A printed value is accepted as an option."""
    assert c.parse(name, c.written(value), family) == value


@pytest.mark.parametrize("published", VARIANTS, ids=lambda published: published.name)
def test_every_value_of_every_variant_is_read_as_it_is_written(published: Variant) -> None:
    """The values that variants have are values of their families."""
    for name in c.names(published.family):
        value = getattr(published.choices, name)
        assert c.parse(name, c.written(value), published.family) == value, name


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.family)
def test_every_choice_has_a_value_that_was_seen(family: type[c.Choices]) -> None:
    """A choice without an alternative in practice is no choice."""
    for name in c.names(family):
        assert c.seen_values(name, family), name
        assert c.about(name, family).meaning
        assert c.about(name, family).shown_by


@pytest.mark.parametrize(
    ("family", "name"), [(one, name) for one in FAMILIES for name in sorted(UNION - {*c.names(one)})]
)
def test_a_choice_that_a_family_lacks_is_refused_with_the_list_of_what_it_has(
    family: type[c.Choices], name: str
) -> None:
    """The list is in the family's order, and says whose it is."""
    message = rf"choice: must be one of {', '.join(c.names(family))} \(of {family.family}\), but got '{name}'"
    with pytest.raises(SpecError, match=message):
        c.parse(name, "none", family)
    with pytest.raises(SpecError, match=message):
        c.read_overrides([f"{name}=none"], family)
    with pytest.raises(SpecError, match=message):
        c.choose(BASES[family].choices, {name: "none"})


@pytest.mark.parametrize(
    ("family", "name", "value"), [entry for entry in SEEN_IN_FAMILIES if entry.values[0] is not TF_RELEASE.family]
)
def test_every_seen_value_of_another_family_builds_a_network_whose_sizes_fit(
    family: type[c.Choices], name: str, value: c.ChoiceValue
) -> None:
    """At every output stride; a number of units takes its own factors of the rates."""
    more = {"multi_grid": (1,) * value[-1]} if name == "stage_units" and isinstance(value, tuple) else {}
    choices = c.choose(BASES[family].choices, {name: value, **more})
    for output_stride in (8, 16, 32):
        graph = network(choices, output_stride, 7)
        known = shapes(graph, (64, 128))
        sides = known[graph.tap("decoder")][1:] if choices.output_resize is c.OutputResize.NONE else (64, 128)
        assert known[graph.outputs[0].path] == (7, *sides)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("decoder", "some", "decoder: must be one of low_level, none, but got 'some'"),
        ("depthwise_norm", "maybe", "depthwise_norm: must be true or false, but got 'maybe'"),
        ("middle_blocks", "many", "middle_blocks: must be a number, but got 'many'"),
        ("exit2_rates", "2", r"exit2_rates: must be numbers with commas between \(for example '1,2'"),
        ("aspp_rates", "6;12", r"aspp_rates: must be numbers with commas between \(for example 'follow_output_stride'"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_with_its_rule(name: str, text: str, message: str) -> None:
    """The message names the choice, the rule and the value."""
    with pytest.raises(SpecError, match=message):
        c.parse(name, text, TF_RELEASE.family)


def test_an_unknown_choice_is_refused_with_the_names() -> None:
    """The message lists the possible values."""
    with pytest.raises(SpecError, match=r"choice: must be one of activation_placement, .*, but got 'colour'"):
        c.parse("colour", "red", TF_RELEASE.family)
    with pytest.raises(SpecError, match="--choose: must be NAME=VALUE, but got 'decoder'"):
        c.read_overrides(["decoder"], TF_RELEASE.family)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("exit2_rates", (0, 2), "rates must be positive"),
        ("aspp_rates", "sometimes", "must be rates or 'follow_output_stride'"),
        ("aspp_rates", (6, 0, 18), "rates must be positive"),
        ("entry_blocks", 4, "must be 3 or 5"),
        ("middle_blocks", 0, "must be 1 or more"),
        ("aspp_dropout", 1.0, "must be at least 0 and below 1"),
        ("decoder_dropout", (0.5, 1.0), "must be at least 0 and below 1"),
        ("backbone_norm_eps", 0.0, "must be positive"),
        ("head_norm_eps", -1.0, "must be positive"),
        ("norm_momentum", 0.0, "must be above 0 and at most 1"),
        ("width", 0.0, "must be above 0 and at most 4"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_rule(name: str, value: c.ChoiceValue, rule: str) -> None:
    """Every number of a choice has a range, and the message names both."""
    with pytest.raises(SpecError, match=f"{name}: {rule}, but got"):
        c.choose(NOTEBOOK.choices, {name: value})


@pytest.mark.parametrize("base", [NOTEBOOK, TF_RELEASE], ids=lambda variant: variant.name)
@pytest.mark.parametrize(("name", "value"), [entry for entry in SEEN if entry != SMALLER_MAPS])
def test_every_override_builds_a_network_whose_sizes_fit(base: Variant, name: str, value: c.ChoiceValue) -> None:
    """Any choice can be overridden wherever a variant is named, at every output stride, odd and even."""
    choices = c.choose(base.choices, {name: value, **({} if name == "middle_blocks" else {"middle_blocks": 2})})
    for output_stride in base.output_strides:
        graph = network(choices, output_stride, 7)
        for size in ((65, 97), (64, 128)):
            known = shapes(graph, size)
            sides = known[graph.tap("decoder")][1:] if value is c.OutputResize.NONE else size
            assert known["output"] == (7, *sides)
            assert known[graph.tap("logits")] == (7, *sides)


def test_atrous_padding_of_one_makes_the_map_smaller_in_every_layer_of_the_last_block() -> None:
    """A 3x3 layer of rate 2 with padding 1 loses a pixel on every side: 33, 31, 29, 27."""
    found = shapes(network(c.choose(TF_RELEASE.choices, dict([SMALLER_MAPS]))), (513, 513))

    sides = [found[f"backbone.exit_flow.block2.sepconv{layer}.depthwise.conv"][1] for layer in (1, 2, 3)]
    assert sides == [31, 29, 27]
    assert found["output"] == (21, 513, 513)


def test_atrous_padding_of_one_cannot_be_where_a_skip_keeps_its_map() -> None:
    """The source document has rates inside blocks with a skip, so there the sum has two sizes."""
    graph = network(c.choose(NOTEBOOK.choices, dict([SMALLER_MAPS])))

    with pytest.raises(GraphError, match=r"one (size|shape)|may be empty"):
        shapes(graph, (513, 513))


def test_overrides_between_returns_the_overrides_of_choose() -> None:
    """Overrides follow from a subject's choices."""
    overrides = {"decoder": c.Decoder.NONE, "middle_blocks": 8}

    assert c.overrides_between(NOTEBOOK.choices, c.choose(NOTEBOOK.choices, overrides)) == overrides


def test_choices_as_json_hold_every_choice_in_plain_data() -> None:
    """JSON documents hold plain values instead of enums."""
    data = c.as_json(NOTEBOOK.choices)

    assert list(data) == list(c.names(TF_RELEASE.family))
    assert {type(value) for value in data.values()} <= {str, bool, int, float, list}
    assert data["aspp_rates"] == [6, 12, 18]


def test_an_unknown_variant_is_refused_with_the_names() -> None:
    """The message lists the names."""
    with pytest.raises(SpecError, match=f"variant: must be one of {VARIANT_NAMES}, but got 'x'"):
        variant("x")


@given(st.sampled_from(XCEPTIONS), st.integers(1, 40), st.floats(0.02, 2))
def test_parameters_grow_with_width_and_depth(base: Variant, blocks: int, width: float) -> None:
    """A sanity property of two numbers that scale the network."""
    choices = c.choose(base.choices, {"middle_blocks": blocks, "width": width})
    more = c.choose(choices, {"middle_blocks": blocks + 1})
    wider = c.choose(choices, {"width": width * 1.5})
    parameters = [Evaluator(network(each))(65, 65).sizes.parameters for each in (choices, more, wider)]

    assert parameters[0] < min(parameters[1:])


@given(st.floats(1e-6, 4, allow_subnormal=False))
def test_counts_stay_in_order_and_pairwise_different(width: float) -> None:
    """A fault that mixes two channel counts stays visible in a narrow network."""
    scaled = list(scaled_channels(BASE_CHANNELS, width).values())

    assert all(left < right for left, right in itertools.pairwise(scaled))
    assert scaled[0] > 3


@given(st.floats(0.2, 4))
def test_counts_are_rounded_products_where_they_are_far_apart(width: float) -> None:
    """At ordinary widths nothing is raised: the rule is a multiplication, rounded half up."""
    scaled = scaled_channels(BASE_CHANNELS, width)

    assert scaled == {channels: int(channels * width + 0.5) for channels in BASE_CHANNELS}
