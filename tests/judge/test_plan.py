"""The sizes at which a candidate is judged can tell every number of the network from its neighbours."""

import pytest

from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.judge.plan import telling_sizes
from tests.support.graphs import narrow_network
from tests.support.members import XCEPTIONS

CASES = [(variant, output_stride) for variant in XCEPTIONS for output_stride in variant.output_strides]


@pytest.mark.parametrize(("variant", "output_stride"), CASES, ids=lambda value: getattr(value, "name", value))
def test_every_rate_and_every_margin_shows(variant: object, output_stride: int) -> None:
    """A rate is smaller than its map; a strided convolution sees an even side, where SAME is not symmetric."""
    network = narrow_network(variant.choices, output_stride)  # type: ignore[attr-defined]
    free, multiples = telling_sizes(network, output_stride)

    for image in (free, multiples):
        maps = shapes(network, image)
        for node in network:
            if isinstance(node.op, Conv2d) and node.op.kernel != (1, 1):
                sides = maps[node.inputs[0]][1:]
                assert max(node.op.rate) < min(sides), node.path
                assert node.op.stride == (1, 1) or any(side % 2 == 0 for side in sides), node.path
    assert free[0] % 2 == 1
    assert free[1] % 2 == 0
    assert all(side % output_stride for side in free)
    assert not any(side % output_stride for side in multiples)
