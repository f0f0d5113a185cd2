"""The reference modules, captured through torch.export, equal the graph of the specification."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import align
from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Op, Output, Resize, roles
from deeplab_spec.reference.network import build
from deeplab_spec.spec.api import network
from deeplab_spec.spec.backbones.xception import AtrousPadding
from deeplab_spec.spec.choices import ChoiceValue, StridePadding, names, seen_values
from deeplab_spec.spec.variants import TF_RELEASE, Variant
from tests.support.assertions import assert_same
from tests.support.graphs import normal, normal_capture
from tests.support.members import CASES
from tests.support.strategies import NARROW, cases
from tests.support.weights import randomise_norms, whole

FEW = settings(max_examples=max(5, settings().max_examples // 8))

NOT_ONE_NODE = {AtrousPadding.ONE, StridePadding.SAME, StridePadding.SAME_STEM}
"""Values with which the module is not a network, or pads in a separate node."""

overrides = st.sampled_from(
    [
        (name, value)
        for name in names(TF_RELEASE.family)
        for value in seen_values(name, TF_RELEASE.family)
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


USUAL = {("notebook", 8), ("tf-release", 16), ("tf-mobilenet-v2", 8)}
SIZE = (96, 64)


@pytest.mark.parametrize(
    ("variant", "output_stride"),
    [case if case in USUAL else pytest.param(*case, marks=pytest.mark.deep) for case in CASES],
)
def test_a_captured_reference_is_the_specification(variant: str, output_stride: int) -> None:
    """No difference; every parameter has the name of its node; the captured graph computes the same values."""
    choices = {"width": NARROW}
    module = randomise_norms(
        build(variant, output_stride, 5, choices), 0
    ).float()  # the same operators, to the last bit
    image = whole((1, 3, *SIZE), 0).float()
    captured = capture(module, [image])
    expected = normal(network(variant, output_stride, 5, choices), SIZE)

    alignment = align(expected, normal_capture(captured))

    assert differences(alignment) == ()
    assert alignment.price == 0
    for node in expected.network:
        for role in roles(node.op):
            assert captured.parameters[f"{alignment.partner[node.path]}.{role}"] == f"{node.path}.{role}"
    with torch.no_grad():
        assert_same(captured.run({"input": image}, state_of(module), keep=())["output"], module(image), "logits")
