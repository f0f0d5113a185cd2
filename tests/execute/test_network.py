"""The interpreter and the modules share the rows only, and agree to the last bit."""

import pytest
import torch

from deeplab_spec.execute.interpreter import run
from deeplab_spec.execute.weights import roles
from deeplab_spec.reference.network import build
from deeplab_spec.spec.api import network
from deeplab_spec.spec.variants import VARIANTS
from tests.support.assertions import assert_same
from tests.support.exact_weights import make_lively, whole
from tests.support.strategies import NARROW

CASES = [(variant.name, output_stride) for variant in VARIANTS for output_stride in variant.output_strides]


@pytest.mark.parametrize(("variant", "output_stride"), CASES)
def test_the_interpreter_computes_what_the_modules_compute(variant: str, output_stride: int) -> None:
    """In float32 both call the same operators in the same order, so even rounding is the same."""
    module = make_lively(build(variant, output_stride, 3, {"width": NARROW}), 0).float()
    graph = network(variant, output_stride, 3, {"width": NARROW})
    image = whole((2, 3, 33, 50), 1).float()

    with torch.no_grad():
        expected = module.intermediate(image)  # type: ignore[operator]
    values = run(graph, module.state_dict(), {"input": image})

    for path in expected.keys() & values.keys():
        assert_same(values[path], expected[path], path)
    for name, path in graph.taps:
        assert_same(values[path], expected[name], name)
    assert len(expected.keys() & values.keys()) > 300


@pytest.mark.parametrize(("variant", "output_stride"), CASES)
def test_the_modules_have_just_the_tensors_that_the_graph_asks_for(variant: str, output_stride: int) -> None:
    """Names and shapes of every weight follow from the graph alone."""
    state = build(variant, output_stride, 3, {"width": NARROW}).state_dict()
    graph = network(variant, output_stride, 3, {"width": NARROW})
    expected = {f"{node.path}.{role}": shape for node in graph for role, shape in roles(node.op).items()}

    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert {name: tuple(tensor.shape) for name, tensor in state.items() if name not in counters} == expected
