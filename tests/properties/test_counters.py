"""Any network that the specification describes: the closed form against the tools, run for real."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_spec.analysis.conventions import FVCORE, TORCH
from deeplab_spec.analysis.costs import total_cost
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.conformance.strategies import NARROW, Configuration, configurations
from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.reference.network import DeepLabV3Plus, build
from tests.support.counters import count_with_fvcore, count_with_torch, weight_gradients_divided_by_groups
from tests.support.per_node_module import costs_of, normalisation_unseen, operations, shapes_unchecked

ON_META = settings(max_examples=max(40, settings().max_examples))
TRAINED = settings(max_examples=max(8, settings().max_examples // 5))
FOR_REAL = settings(max_examples=max(6, settings().max_examples // 6))
"""In the profile ``deep``: 200, 40 and 33."""

UNDIVIDED = not weight_gradients_divided_by_groups()


def module(drawn: Configuration) -> DeepLabV3Plus:
    """Build the reference."""
    return build(drawn.variant, drawn.output_stride, drawn.classes, drawn.choices)


def on_meta(drawn: Configuration) -> DeepLabV3Plus:
    """Build the reference without storage for its weights."""
    with torch.device("meta"):
        return module(drawn)


full = configurations(st.sampled_from((NARROW, 0.3, 0.5, 1.0, 1.25)), st.integers(1, 700))
narrow = configurations(st.sampled_from((NARROW, 1 / 16)), st.integers(1, 49))


@ON_META
@given(drawn=full)
def test_torch_counts_any_network_as_the_closed_form(drawn: Configuration) -> None:
    """In total and at every convolution, whose name in the reference is its path."""
    with shapes_unchecked(), normalisation_unseen():
        counted = count_with_torch(on_meta(drawn), (torch.empty(1, 3, *drawn.size, device="meta"),), Mode.FORWARD)

    graph = drawn.graph
    expected = operations(costs_of(graph, drawn.size, TORCH))
    convolutions = {node.path: counted.by_module[node.path] for node in graph if isinstance(node.op, Conv2d)}
    assert convolutions == {path: count for path, count in expected.items() if count}
    assert counted.total == sum(expected.values()) == Evaluator(graph, TORCH)(*drawn.size).operations


@TRAINED
@given(drawn=full)
def test_torch_counts_a_training_step_of_any_network_as_the_closed_form(drawn: Configuration) -> None:
    """A batch of two costs twice one image; the normalisation of a single pixel refuses one."""
    with shapes_unchecked():
        counted = count_with_torch(on_meta(drawn), (torch.empty(2, 3, *drawn.size, device="meta"),), Mode.TRAIN)

    expected = total_cost(costs_of(drawn.graph, drawn.size, TORCH, Mode.TRAIN, undivided=UNDIVIDED))
    assert counted.total == 2 * expected.operations


@FOR_REAL
@given(drawn=narrow)
def test_fvcore_counts_any_network_as_the_closed_form(drawn: Configuration) -> None:
    """In total, by operator, and what it skips."""
    with shapes_unchecked():  # a tracer makes every comparison of sizes a part of its graph
        counted = count_with_fvcore(module(drawn), (torch.zeros(1, 3, *drawn.size),))

    graph = drawn.graph
    expected = total_cost(costs_of(graph, drawn.size, FVCORE))
    assert counted.by_operator == dict(expected.operators)
    assert counted.skipped == dict(expected.skipped)
    assert counted.total == expected.operations == Evaluator(graph, FVCORE)(*drawn.size).operations
