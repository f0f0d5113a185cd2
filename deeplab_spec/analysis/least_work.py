"""The least work of a network: what no way of running it can do without.

However operators are fused, every convolution computes its products, the images and the kernels are read
once and the results are written once. A library may still compute the products of a convolution in fewer
multiplications (Winograd's algorithm): the operations are those of the direct sum.
"""

from dataclasses import dataclass
from math import prod

from deeplab_spec.analysis.costs import Values
from deeplab_spec.analysis.stored import conv_weights
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Conv2d


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastWork:
    """The least work of one run.

    Attributes:
        flops: Operations of convolutions; a multiplication and an addition are two.
        numbers: Numbers that are read or written: images, kernels and results.
    """

    flops: int
    numbers: int


def least_work(network: Network, shapes: Values, images: int) -> LeastWork:
    """Return the least work of a batch.

    Args:
        network: The graph.
        shapes: Shape of every value for one image, by path.
        images: Images in the batch.
    """
    kernels = {node.path: conv_weights(node.op) for node in network if isinstance(node.op, Conv2d)}
    products = sum(count * prod(shapes[path][1:]) for path, count in kernels.items())
    ends = sum(prod(shapes[node.path]) for node in (*network.inputs, *network.outputs))
    return LeastWork(flops=2 * images * products, numbers=images * ends + sum(kernels.values()))
