"""The least work of a network: what no way of running it can do without.

However operators are fused, every convolution computes its products, the images and the kernels are read
once and the results are written once. A library may still compute the products of a convolution in fewer
multiplications (Winograd's algorithm): the operations are those of the direct sum.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from deeplab_spec.analysis.costs import Values
from deeplab_spec.analysis.parameters import conv_weights
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Conv2d, Input, Output


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastWork:
    """The least work of one run.

    Attributes:
        flops: Operations of convolutions; a multiplication and an addition are two.
        numbers: Numbers that are read or written: images, kernels and results.
    """

    flops: int
    numbers: int


def least_work(nodes: Iterable[Node], shapes: Values, images: int) -> LeastWork:
    """Return the least work of a batch.

    Args:
        nodes: Those of a network, or of a part of it: images and results count where they are among them.
        shapes: Shape of every value for one image, by path.
        images: Images in the batch.
    """
    products = kernels = ends = 0
    for node in nodes:
        if isinstance(node.op, Conv2d):
            kernels += conv_weights(node.op)
            products += conv_weights(node.op) * prod(shapes[node.path][1:])
        elif isinstance(node.op, Input | Output):
            ends += prod(shapes[node.path])
    return LeastWork(flops=2 * images * products, numbers=images * ends + kernels)
