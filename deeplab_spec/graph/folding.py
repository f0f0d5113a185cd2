"""Folds normalisations into the convolutions before them, on the graph alone.

In evaluation a normalisation multiplies by one number per channel and adds another, which a convolution with a bias
can do itself.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Resize


def foldable(network: Network) -> tuple[tuple[str, str], ...]:
    """Return the convolutions whose only reader is a normalisation, each with that normalisation.

    A resize that takes only its size from a convolution does not count as a reader.
    """
    reads = Counter(path for node in network for path in values_read(node))
    pairs = []
    for node in network:
        if isinstance(node.op, BatchNorm):
            before = network[node.inputs[0]]
            if isinstance(before.op, Conv2d) and reads[before.path] == 1:
                pairs.append((before.path, node.path))
    return tuple(pairs)


def values_read(node: Node) -> tuple[str, ...]:
    """Return the inputs whose values a node uses; a resize uses only the size of its second input."""
    return node.inputs[:1] if isinstance(node.op, Resize) else node.inputs


def folded(network: Network, norms: Collection[str] | None = None) -> Network:
    """Return the network with normalisations folded into the convolutions before them.

    Each such convolution has a bias, and the readers of the normalisation read it.

    ``norms`` are the normalisations to fold if possible; all by default.
    """
    conv_of = {norm: conv for conv, norm in foldable(network) if norms is None or norm in norms}
    return with_bias(network.without(conv_of), set(conv_of.values()), bias=True)


def with_bias(network: Network, paths: Collection[str] | None = None, *, bias: bool) -> Network:
    """Return the network in which some convolutions, or all, have a bias or none."""
    return network.with_nodes(
        replace(node, op=replace(node.op, bias=bias))
        if isinstance(node.op, Conv2d) and (paths is None or node.path in paths)
        else node
        for node in network
    )


def normalises(network: Network) -> bool:
    """Tell whether any normalisation directly follows a convolution."""
    norms = (node for node in network if isinstance(node.op, BatchNorm))
    return any(isinstance(network[node.inputs[0]].op, Conv2d) for node in norms)
