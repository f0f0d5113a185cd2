"""What the modules compute, read back through torch.export, is the graph of the specification."""

from dataclasses import replace
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_spec.capture.fx.module import capture
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Op, Output, Resize
from deeplab_spec.reference.network import build
from deeplab_spec.spec.api import network
from deeplab_spec.spec.choices import NAMES, AtrousPadding, ChoiceValue, StridePadding, seen_values
from deeplab_spec.spec.variants import Variant
from tests.support.strategies import NARROW, cases

FEW = settings(max_examples=max(5, settings().max_examples // 8))

NOT_ONE_NODE = {AtrousPadding.ONE, StridePadding.SAME, StridePadding.SAME_STEM}
"""Values of which the module is no network, or pads in a node of its own."""

overrides = st.sampled_from(
    [
        (name, value)
        for name in NAMES
        for value in seen_values(name)
        if value not in NOT_ONE_NODE and name not in {"width", "sizes_accepted"}
    ]
)


def comparable(graph: Network) -> list[tuple[Op, list[int]]]:
    """Return operators and the positions of their inputs, without sizes and names of one capture."""
    places = {node.path: place for place, node in enumerate(graph)}
    found: list[tuple[Op, list[int]]] = []
    for node in graph:
        op = node.op
        reads = [places[path] for path in node.inputs]
        if isinstance(op, Resize):
            op, reads = replace(op, size=None), reads[:1]
        elif isinstance(op, Output):
            op = Output(name="")
        found.append((op, reads))
    return found


@FEW
@given(case=cases(), override=overrides)
def test_the_captured_module_is_the_graph_node_by_node(
    case: tuple[Variant, int], override: tuple[str, ChoiceValue]
) -> None:
    """The same operators with the same numbers and wiring, in the same order, and nothing else."""
    variant, output_stride = case
    choices: dict[str, Any] = {"middle_blocks": 2, override[0]: override[1], "width": NARROW}
    captured = capture(build(variant.name, output_stride, 3, choices), [torch.zeros(1, 3, 65, 66)])
    expected = network(variant.name, output_stride, 3, choices)
    for (actual_op, actual_reads), (op, reads), node in zip(
        comparable(captured.network), comparable(expected), expected, strict=True
    ):
        assert (node.path, actual_op, actual_reads) == (node.path, op, reads)


@FEW
@given(case=cases())
def test_weights_have_the_names_of_their_nodes(case: tuple[Variant, int]) -> None:
    """The key of a weight is the path of its node and the weight's role."""
    variant, output_stride = case
    choices = {"width": NARROW}
    graph = network(variant.name, output_stride, 3, choices)
    for key in build(variant.name, output_stride, 3, choices).state_dict():
        assert key.rpartition(".")[0] in graph
