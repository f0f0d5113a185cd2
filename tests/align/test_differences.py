"""Differences are causes: one wrong number is one difference, and its consequences are none."""

from dataclasses import replace
from typing import Any

import pytest

from deeplab_spec.align.differences import ABSENT, Aspect, aspects, describe, differences, fact
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    GlobalAveragePool,
    Input,
    Op,
    Opaque,
    Output,
    Pool,
    PoolKind,
    Resize,
)
from deeplab_spec.mutate.mutant import inserted, with_inputs, without
from deeplab_spec.spec.variants import TF_RELEASE
from tests.support.graphs import TELLING, between, chain, narrow_network, side_by_side, with_op

GRAPH = narrow_network(replace(TF_RELEASE.choices, middle_blocks=1), 16)
CONV: Any = {"channels_in": 4, "channels_out": 4}


def named(found: tuple[Aspect, ...]) -> list[tuple[str, str, object, object]]:
    """Return the differences in short form."""
    return [(aspect.path, aspect.attribute, aspect.expected, aspect.actual) for aspect in found]


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        ("aspp.conv1x1.conv", {"bias": True}, ("bias", False, True)),
        ("aspp.atrous1.depthwise.conv", {"rate": (5, 5), "padding": (5, 5, 5, 5)}, ("rate", 6, 5)),
        ("aspp.atrous1.depthwise.conv", {"rate": (5, 6), "padding": (5, 5, 6, 6)}, ("rate", 6, (5, 6))),
        ("aspp.atrous1.depthwise.conv", {"padding": (5, 7, 6, 6)}, ("padding", 6, (5, 7, 6, 6))),
        ("backbone.entry_flow.stem.conv1.conv", {"padding": "same"}, ("padding", 1, (1, 1, 0, 1))),
        ("aspp.projection.norm", {"eps": 0.1}, ("eps", 1e-5, 0.1)),
        ("aspp.projection.norm", {"affine": False}, ("affine", True, False)),
        ("output.resize", {"align_corners": False}, ("align_corners", True, False)),
        ("decoder.logits.conv", {"kernel": (3, 3), "padding": (1, 1, 1, 1)}, ("kernel", 1, 3)),
    ],
)
def test_one_wrong_number_is_one_difference(path: str, fields: Any, expected: tuple[str, object, object]) -> None:
    """Both values are given; a pair of equal numbers is one number."""
    assert named(between(GRAPH, with_op(GRAPH, path, **fields))) == [(path, *expected)]


def test_other_channels_are_the_difference_of_the_layer_that_makes_them() -> None:
    """Their readers have other channels too, but no fault of their own."""
    wide = with_op(GRAPH, "decoder.low_level.conv", channels_out=9)
    wide = with_op(wide, "decoder.low_level.norm", channels=9)
    depthwise = GRAPH["decoder.conv1.depthwise.conv"].op
    assert isinstance(depthwise, Conv2d)
    channels = depthwise.channels_in + 9 - 5
    wide = with_op(wide, "decoder.conv1.depthwise.conv", channels_in=channels, channels_out=channels, groups=channels)
    wide = with_op(wide, "decoder.conv1.depthwise.norm", channels=channels)
    wide = with_op(wide, "decoder.conv1.pointwise.conv", channels_in=channels)

    assert named(between(GRAPH, wide)) == [("decoder.low_level.conv", "channels_out", 5, 9)]


def test_another_stride_changes_sizes_that_are_no_differences() -> None:
    """A resize to the size of a map is correct for any size of that map."""
    strided = with_op(GRAPH, "decoder.low_level.conv", stride=(2, 2))

    assert named(between(GRAPH, strided)) == [("decoder.low_level.conv", "stride", 1, 2)]


def test_a_resize_to_a_size_that_nothing_has_is_a_difference() -> None:
    """Its target is a stated size."""
    other = with_op(GRAPH, "output.resize", size=(7, 8))

    assert named(between(GRAPH, other)) == [("output.resize", "size", TELLING, (7, 8))]


def test_a_missing_node_is_described_and_an_extra_one_stands_where_it_was_put() -> None:
    """On the side that has it."""
    relu = "aspp.projection.activation"
    assert named(between(GRAPH, without(GRAPH, [relu]))) == [(relu, "node", "relu activation", ABSENT)]
    logits = "decoder.logits.conv"
    assert named(between(GRAPH, inserted(GRAPH, logits))) == [(logits, "node", ABSENT, "relu activation")]


def test_an_extra_node_on_one_of_two_paths_belongs_to_its_reader() -> None:
    """The value itself is right; the path to one of its two readers is not."""
    value, reader = "backbone.entry_flow.block3.add", "backbone.middle_flow.block1.add"
    main = GRAPH[reader].inputs[0]
    extra = Node(path="extra", op=Activation(kind=ActivationKind.ELU), inputs=(value,))
    nodes = [node for node in GRAPH if node.path != reader]
    place = next(number for number, node in enumerate(nodes) if node.path == main) + 1
    add = replace(GRAPH[reader], inputs=(main, "extra"))
    candidate = GRAPH.with_nodes([*nodes[:place], extra, add, *nodes[place:]])

    found = between(GRAPH, candidate)

    assert named(found) == [(reader, "node", ABSENT, "elu activation")]


def test_another_source_is_a_difference_of_inputs() -> None:
    """Named by the specification's paths on both sides."""
    tap, read = "decoder.low_level.conv", "backbone.entry_flow.block2.sepconv2.pointwise.norm"
    other = "backbone.entry_flow.block2.sepconv1.pointwise.norm"

    assert named(between(GRAPH, with_inputs(GRAPH, tap, other))) == [(tap, "inputs", (read,), (other,))]


def test_an_aspect_for_every_fact_and_all_are_equal_of_equal_networks() -> None:
    """Equal attributes are counted too: nothing passes without a decision."""
    alignment = side_by_side(GRAPH, GRAPH)
    found = aspects(alignment)

    assert all(aspect.equal for aspect in found)
    assert {aspect.path for aspect in found} == {node.path for node in alignment.expected.network}
    convs = sum(isinstance(node.op, Conv2d) for node in alignment.expected.network)
    assert sum(aspect.attribute == "rate" for aspect in found) == convs
    assert len({(aspect.path, aspect.attribute) for aspect in found}) == len(found)


def test_differences_are_the_aspects_that_are_not_equal() -> None:
    """Skipping equal nodes gives the same differences."""
    changed = with_op(inserted(GRAPH, "decoder.logits.conv"), "aspp.conv1x1.norm", eps=0.5)
    alignment = side_by_side(GRAPH, changed)

    assert differences(alignment) == tuple(aspect for aspect in aspects(alignment) if not aspect.equal)
    assert len(differences(alignment)) == 2


@pytest.mark.parametrize(
    ("op", "words"),
    [
        (
            Conv2d(channels_in=3, channels_out=8, kernel=(3, 3), stride=(2, 2)),
            "3x3 convolution, 3 to 8 channels, stride 2",
        ),
        (Conv2d(**CONV, groups=4, kernel=(3, 1), rate=(2, 1)), "depthwise 3x1 convolution, 4 channels, rate (2, 1)"),
        (BatchNorm(channels=1, eps=1e-3, momentum=0.1), "normalisation, eps 0.001"),
        (BatchNorm(channels=1, eps=0.00100000047, momentum=0.1), "normalisation, eps 0.00100000047"),
        (Activation(kind=ActivationKind.SILU), "silu activation"),
        (Add(), "sum"),
        (Concat(), "concatenation"),
        (GlobalAveragePool(), "global average pooling"),
        (Resize(), "bilinear resize"),
        (Opaque(target="aten.sin"), "aten.sin"),
        (Pool(kind=PoolKind.MAX, kernel=(2, 2), stride=(2, 2)), "max pooling"),
    ],
)
def test_operations_are_worded(op: Op, words: str) -> None:
    """Values are shown as in reports."""
    assert describe(op) == words


def test_facts_are_plain() -> None:
    """Enumerations stay text; other values are converted to text."""
    assert fact(PoolKind.MAX) == "max"
    assert fact(None) is None
    assert fact(Add()) == "Add()"


def test_unknown_operations_are_compared_by_their_arguments() -> None:
    """Two opaque calls of one operator with other arguments differ."""
    low, high = (chain(Opaque(target="aten.clamp", detail=f"x, {bound}")) for bound in (0, 1))
    shapes = dict.fromkeys(("x", "n1", "y"), (4, 2, 2))
    found = differences(align(Shaped(network=low, shapes=shapes), Shaped(network=high, shapes=shapes)))
    assert named(found) == [("n1", "detail", "x, 0", "x, 1")]


def test_two_networks_of_one_node_have_no_place_for_another() -> None:
    """An extra node before the output is reported at the node that it follows."""
    x = Node(path="x", op=Input(channels=1))
    empty = Network(nodes=(x, Node(path="y", op=Output(name=""), inputs=("x",))))

    assert named(between(empty, chain(Activation(), channels=1), (2, 2))) == [("x", "node", ABSENT, "relu activation")]
