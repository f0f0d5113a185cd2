"""Costs of every block on both sides: differences that no operation shows, and no others."""

from dataclasses import replace

import pytest

from deeplab_spec.align.counts import BlockCounts, block_counts
from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.spec.choices import choose, read_overrides
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import TF_RELEASE, Variant
from tests.support.members import KINDS

SIZE = (289, 300)


def counted(expected: Network, candidate: Network, shared: tuple[str, ...] = ()) -> tuple[BlockCounts, ...]:
    """Align two networks and count their blocks."""
    left, right = (normal_form(shaped(graph, SIZE)) for graph in (expected, candidate))
    return block_counts(align(left, right), shared)


def release(*overrides: str) -> Network:
    """Return the release's network with some choices overridden."""
    return network(choose(TF_RELEASE.choices, read_overrides(overrides, TF_RELEASE.family)))


@pytest.mark.parametrize("variant", KINDS, ids=lambda variant: variant.name)
def test_a_network_costs_what_it_costs(variant: Variant) -> None:
    """Blocks add up to the evaluator's totals, each of them comparable and equal."""
    graph = network(variant.choices)
    blocks = counted(graph, graph)
    totals = Evaluator(graph)(*SIZE)

    assert all(block.comparable for block in blocks)
    assert sum(block.parameters.actual for block in blocks) == totals.sizes.parameters
    assert sum(block.multiply_adds.actual for block in blocks) == totals.operations
    for block in blocks:
        assert block.parameters.expected == block.parameters.actual
        assert block.multiply_adds.expected == block.multiply_adds.actual


def test_shared_parameters_are_missed_where_they_are_used_again() -> None:
    """Two layers with shared weights have the specified operations; only the count differs."""
    path = "backbone.middle_flow.block7.sepconv2.pointwise.conv"
    graph = release()
    blocks = counted(graph, graph, shared=(path,))
    wrong = [block for block in blocks if block.parameters.expected != block.parameters.actual]

    assert [block.path for block in wrong] == ["backbone.middle_flow.block7"]
    assert wrong[0].comparable
    assert [(node.path, node.expected, node.actual) for node in wrong[0].nodes if node.expected != node.actual] == [
        (path, 728 * 728, 0)
    ]


def moved() -> Network:
    """Return a network with the totals of the release, but with channels moved from one block to another."""
    graph = release()
    inner = {"backbone.middle_flow.block3": 727, "backbone.middle_flow.block9": 729}
    nodes = []
    for node in graph:
        block = next((path for path in inner if node.path.startswith(f"{path}.sepconv2.")), None)
        after = next((path for path in inner if node.path.startswith(f"{path}.sepconv3.depthwise")), None)
        op = node.op
        if block and node.path.endswith("pointwise.conv") and isinstance(op, Conv2d):
            op = replace(op, channels_out=inner[block])
        elif block and node.path.endswith("pointwise.norm"):
            op = replace(op, channels=inner[block])  # type: ignore[call-arg]
        elif after and isinstance(op, Conv2d):
            op = replace(op, channels_in=inner[after], channels_out=inner[after], groups=inner[after])
        elif after and node.path.endswith("norm"):
            op = replace(op, channels=inner[after])  # type: ignore[call-arg]
        elif node.path.endswith("sepconv3.pointwise.conv") and isinstance(op, Conv2d):
            path = node.path.removesuffix(".sepconv3.pointwise.conv")
            op = replace(op, channels_in=inner.get(path, op.channels_in))
        nodes.append(replace(node, op=op))
    return graph.with_nodes(nodes)


def test_cost_moved_between_blocks_is_seen_though_the_totals_are_equal() -> None:
    """Two wrong blocks cancel in every total; differences name their nodes, counts their costs."""
    graph = release()
    candidate = moved()
    left, right = (normal_form(shaped(network, SIZE)) for network in (graph, candidate))
    alignment = align(left, right)
    blocks = block_counts(alignment)
    wrong = {block.path: block for block in blocks if block.parameters.expected != block.parameters.actual}

    assert Evaluator(graph)(*SIZE) == Evaluator(candidate)(*SIZE)
    assert set(wrong) == {"backbone.middle_flow.block3", "backbone.middle_flow.block9"}
    assert sum(block.parameters.actual - block.parameters.expected for block in wrong.values()) == 0
    assert {aspect.path.rpartition(".sepconv")[0] for aspect in differences(alignment)} == set(wrong)
    assert not any(block.comparable for block in wrong.values()), "their own operations say what is wrong"


@pytest.mark.parametrize(
    "override",
    [
        "middle_blocks=8",
        "aspp_convs=dense",
        "decoder_convs=separable_1",
        "low_level_tap=block1",
        "conv_bias=every",
    ],
)
def test_what_an_operation_explains_is_not_found_again(override: str) -> None:
    """Every block with other costs has different operations or inputs."""
    blocks = counted(release(), release(override))

    assert any(block.parameters.expected != block.parameters.actual for block in blocks)
    for block in blocks:
        if block.comparable:
            assert block.parameters.expected == block.parameters.actual
            assert block.multiply_adds.expected == block.multiply_adds.actual
