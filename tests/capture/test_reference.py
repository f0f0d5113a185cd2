"""The reference modules, read back, have the specification's normal form, node by node."""

import pytest
import torch

from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import align
from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.execute.interpreter import run
from deeplab_spec.execute.weights import roles
from deeplab_spec.judge.load_weights import by_role
from deeplab_spec.reference.network import build
from deeplab_spec.spec.api import network
from deeplab_spec.spec.variants import VARIANTS
from tests.support.assertions import assert_same
from tests.support.exact_weights import make_lively, whole
from tests.support.graphs import normal, normal_capture
from tests.support.strategies import NARROW

CASES = [(variant.name, output_stride) for variant in VARIANTS for output_stride in variant.output_strides]
USUAL = {("notebook", 8), ("tf-release", 16)}
SIZE = (97, 70)


@pytest.mark.parametrize(
    ("variant", "output_stride"),
    [case if case in USUAL else pytest.param(*case, marks=pytest.mark.deep) for case in CASES],
)
def test_a_captured_reference_is_the_specification(variant: str, output_stride: int) -> None:
    """No difference; every parameter has the name of its node; the captured graph computes the same values."""
    choices = {"width": NARROW}
    module = make_lively(build(variant, output_stride, 5, choices), 0).float()  # the same operators, to the last bit
    image = whole((1, 3, *SIZE), 0).float()
    captured = capture(module, [image])
    expected = normal(network(variant, output_stride, 5, choices), SIZE)

    alignment = align(expected, normal_capture(captured))

    assert differences(alignment) == ()
    assert alignment.price == 0
    for node in expected.network:
        for role in roles(node.op):
            assert captured.parameters[f"{alignment.partner[node.path]}.{role}"] == f"{node.path}.{role}"
    weights = by_role(captured, state_of(module))
    with torch.no_grad():
        assert_same(run(captured.network, weights, {"input": image}, keep=())["output"], module(image), "logits")
