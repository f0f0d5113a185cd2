"""The order of a candidate's channels is tracked from concatenations to the convolutions that read them."""

import random
from dataclasses import replace
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import Alignment, channel_orders
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Concat, Conv2d, Input, Output
from deeplab_spec.mutate.mutant import with_inputs
from deeplab_spec.spec.backbones.resnet import ResNetChoices
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, TF_RESNET50
from tests.support.graphs import narrow_network, side_by_side

SIZE = (8, 8)


def join(widths: list[int], order: list[int], *after: tuple[str, object]) -> Network:
    """Return convolutions with distinguishable kernels, concatenated in an order, and a convolution after them."""
    nodes = [Node(path="x", op=Input(channels=2))]
    for number, width in enumerate(widths):
        conv = Conv2d(channels_in=2, channels_out=width, kernel=(2 * number + 1, 1), padding=(number, number, 0, 0))
        nodes.append(Node(path=f"branch{number}", op=conv, inputs=("x",)))
    nodes.append(Node(path="join", op=Concat(), inputs=tuple(f"branch{number}" for number in order)))
    for path, op in after:
        nodes.append(Node(path=path, op=op, inputs=(nodes[-1].path,)))  # type: ignore[arg-type]
    return Network(nodes=(*nodes, Node(path="y", op=Output(name=""), inputs=(nodes[-1].path,))))


def orders(expected: Network, candidate: Network) -> tuple[Alignment, dict[str, tuple[int, ...]]]:
    """Align two networks; return the alignment and the candidate's channel orders."""
    alignment = side_by_side(expected, candidate, SIZE)
    return alignment, dict(channel_orders(alignment, candidate))


@given(widths=st.lists(st.integers(1, 4), min_size=3, max_size=4), shuffler=st.integers(0, 999).map(random.Random))
def test_an_order_says_which_channel_stands_where(widths: list[int], shuffler: random.Random) -> None:
    """Concatenating labels of the specification's channels gives the order."""
    total = sum(widths)
    tail = (
        ("norm", BatchNorm(channels=total, eps=1e-3, momentum=0.1)),
        ("depthwise", Conv2d(channels_in=total, channels_out=total, groups=total)),
        ("relu", Activation()),
        ("pointwise", Conv2d(channels_in=total, channels_out=3)),
    )
    order = list(range(len(widths)))
    shuffler.shuffle(order)
    straight = join(widths, list(range(len(widths))), *tail)

    _, found = orders(straight, join(widths, order, *tail))

    starts = [0, *accumulate(widths)]
    expected = tuple(channel for branch in order for channel in range(starts[branch], starts[branch + 1]))
    if expected == tuple(range(total)):
        assert found == {}
    else:
        assert set(found) == {"join", "norm", "depthwise", "relu"}, "and it ends where a convolution reads it"
        assert set(found.values()) == {expected}


def test_the_branches_of_the_pyramid_are_followed_into_the_projection() -> None:
    """The release puts the pool first, the document last."""
    graph = narrow_network(replace(TF_RELEASE.choices, middle_blocks=1), 16)
    pool, *rest = graph["aspp.concat"].inputs
    candidate = with_inputs(graph, "aspp.concat", *rest, pool)
    found = channel_orders(side_by_side(graph, candidate), candidate)
    depth = len(found["aspp.concat"]) // 5

    assert set(found) == {"aspp.concat"}
    assert found["aspp.concat"] == (*range(depth, 5 * depth), *range(depth))


def test_equal_orders_are_not_listed() -> None:
    """A weight is permuted only if the order differs."""
    graph = narrow_network(NOTEBOOK.choices, 16)

    assert channel_orders(side_by_side(graph, graph), graph) == {}


def test_a_concatenation_of_something_else_has_no_order() -> None:
    """A branch without a partner has channels of unknown order."""
    straight, other = join([2, 3], [0, 1]), join([2, 3], [0, 0])
    _, found = orders(straight, other)

    assert found == {}


def test_a_node_that_stands_elsewhere_in_the_order_keeps_its_partner() -> None:
    """A reader that takes a value before its normalisation has another input; nothing is missing or extra."""
    tap = "decoder.low_level.conv"
    graph = narrow_network(replace(TF_RESNET50.choices, **ResNetChoices.short), 16)
    norm = graph[graph[tap].inputs[0]]
    alignment = side_by_side(graph, with_inputs(graph, tap, *norm.inputs))

    assert isinstance(norm.op, BatchNorm)
    assert alignment.missing == alignment.extra == ()
    assert [(found.path, found.attribute) for found in differences(alignment)] == [(tap, "inputs")]
