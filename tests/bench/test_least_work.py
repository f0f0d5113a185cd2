"""The least work of a network: below what every operator alone does, and made of the specification's own numbers."""

import pytest

from deeplab_spec.analysis.conventions import MAC
from deeplab_spec.analysis.costs import node_costs, total_cost
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.bench.least_work import least_work
from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.spec.api import network

SIZE = (65, 97)


@pytest.mark.parametrize("variant", ["notebook", "tf-release"])
def test_least_operations_are_the_multiply_adds_of_convolutions_twice(variant: str) -> None:
    """A product and a sum are two operations; what only adds or compares can be fused away."""
    graph = network(variant)
    found = least_work(graph, shapes(graph, SIZE), 3)

    assert found.flops == 2 * 3 * total_cost(node_costs(graph, shapes(graph, SIZE), MAC)).operations


def test_kernels_are_read_once_for_a_batch_and_images_and_results_for_every_image() -> None:
    """So a batch of two takes less than twice the numbers."""
    graph = network("notebook", num_classes=5)
    one, two = (least_work(graph, shapes(graph, SIZE), images).numbers for images in (1, 2))
    kernels = sum(
        node.op.kernel[0] * node.op.kernel[1] * node.op.channels_in // node.op.groups * node.op.channels_out
        for node in graph
        if isinstance(node.op, Conv2d)
    )

    assert two - one == (3 + 5) * SIZE[0] * SIZE[1]
    assert 2 * one - two == kernels
