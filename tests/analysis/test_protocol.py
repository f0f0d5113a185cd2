"""Several scales and mirrored images, compared with an independent calculation."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.analysis.conventions import CONVENTIONS, FULL, MAC, TFPROF, Convention
from deeplab_spec.analysis.costs import node_costs, total_cost
from deeplab_spec.analysis.protocol import MULTI_SCALE, SINGLE, Protocol, protocol_costs, protocol_totals, scaled
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Conv2d, Pair
from deeplab_spec.spec.choices import choose
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import TF_RELEASE, Variant
from tests.support.members import XCEPTIONS

SMALL = network(choose(TF_RELEASE.choices, {"width": 0.125, "middle_blocks": 1}))
SIDES = (257, 385, 513, 641, 769, 897)
"""513 at the scales of the paper, by hand: 512 times 0.5, 0.75, 1, 1.25, 1.5 and 1.75, plus 1."""


def halves_once(graph: Network) -> int:
    """Return the count that ``tfprof`` makes once for a network, in halves: 5 per dense weight, 2 per depthwise one."""
    total = 0
    for node in graph:
        if isinstance(node.op, Conv2d):
            height, width = node.op.kernel
            if node.op.groups == 1:
                total += 5 * height * width * node.op.channels_in * node.op.channels_out
            else:
                total += 2 * height * width * node.op.channels_out
    return total


def halves_at(graph: Network, size: Pair) -> int:
    """Return all that ``tfprof`` counts of one image of a size, in halves."""
    return int(2 * sum(cost.operations for cost in node_costs(graph, shapes(graph, size), TFPROF)))


def test_sides_at_the_scales_of_the_paper() -> None:
    """A side of 512 k + 1 keeps that form, so that its maps still line up."""
    assert Protocol(scales=MULTI_SCALE).sizes((513, 513)) == tuple((side, side) for side in SIDES)
    assert tuple(map(Fraction, ("0.5", "0.75", "1", "1.25", "1.5", "1.75"))) == MULTI_SCALE


@given(st.integers(1, 5000), st.integers(1, 16))
def test_side_at_a_scale_is_cut_to_whole_pixels(side: int, quarters: int) -> None:
    """``int((d - 1) * s + 1)`` in integers: quarters are divided last, and the remainder is dropped."""
    assert scaled(side, Fraction(quarters, 4)) == ((side - 1) * quarters + 4) // 4


@pytest.mark.parametrize("variant", XCEPTIONS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("flip", [False, True])
def test_weights_are_counted_once_and_all_else_for_every_image_at_every_scale(variant: Variant, flip: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Multi-scale and flip equal the sum over single images of every scale."""
    graph = network(variant.choices)
    once = halves_once(graph)
    images = 2 if flip else 1
    expected = once + images * sum(halves_at(graph, (side, side)) - once for side in SIDES)

    protocol = Protocol(scales=MULTI_SCALE, flip=flip)
    totals = protocol_totals(Evaluator(graph, TFPROF), (513, 513), protocol)

    assert once > 0
    assert 2 * totals.operations == expected
    assert 2 * total_cost(protocol_costs(graph, (513, 513), protocol, TFPROF)).operations == expected


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: convention.name)
@given(st.lists(st.integers(2, 8), min_size=1, max_size=3), st.booleans(), st.integers(33, 130), st.integers(33, 130))
def test_nodes_add_up_to_the_totals_of_the_evaluator(
    convention: Convention,
    quarters: list[int],
    flip: bool,  # noqa: FBT001 - a draw
    height: int,
    width: int,
) -> None:
    """Two computations of the same number, at any scales and sizes; parameters are stored once."""
    protocol = Protocol(scales=tuple(Fraction(quarter, 4) for quarter in quarters), flip=flip)

    nodes = total_cost(protocol_costs(SMALL, (height, width), protocol, convention))
    totals = protocol_totals(Evaluator(SMALL, convention), (height, width), protocol)

    assert nodes.operations == totals.operations
    assert nodes.sizes == totals.sizes
    assert sum(nodes.operators.values()) == nodes.operations


def test_a_mirrored_image_doubles_what_is_computed_and_moved() -> None:
    """Parameters and memory alive stay the same: images are processed one after the other."""
    single = total_cost(protocol_costs(SMALL, (65, 97), SINGLE, FULL, Mode.TRAIN))
    both = total_cost(protocol_costs(SMALL, (65, 97), Protocol(flip=True), FULL, Mode.TRAIN))

    doubled = ("operations", "flops", "bytes_read", "bytes_written", "bytes_kept")
    assert [getattr(both, name) for name in doubled] == [2 * getattr(single, name) for name in doubled]
    assert (both.sizes, both.bytes_live, both.output) == (single.sizes, single.bytes_live, single.output)


def test_two_scales_are_the_sum_of_both_alone() -> None:
    """Multiply-adds have no part that is counted once; the output is that at the image's own size."""
    protocol = Protocol(scales=(Fraction(1, 2), Fraction(3, 2)))

    together = protocol_costs(SMALL, (65, 97), protocol, MAC)

    alone = [node_costs(SMALL, shapes(SMALL, size)) for size in ((33, 49), (97, 145))]
    assert [cost.operations for cost in together] == [
        first.operations + second.operations for first, second in zip(*alone, strict=True)
    ]
    assert [cost.output for cost in together] == [shapes(SMALL, (65, 97))[cost.path] for cost in together]


@pytest.mark.parametrize("scales", [(), (Fraction(0),), (Fraction(1), Fraction(-1, 2))])
def test_a_scale_must_be_positive(scales: tuple[Fraction, ...]) -> None:
    """An image needs pixels."""
    with pytest.raises(SpecError, match="scales: must be positive, and at least one"):
        Protocol(scales=scales)
