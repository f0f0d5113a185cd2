"""Where in a network a rewrite applies: the nodes of a kind, with the nodes around them."""

from collections.abc import Callable, Iterator

from torch import nn

from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Concat, Conv2d, Op
from deeplab_spec.mutate.rewrites.convolutions import split_sources
from deeplab_spec.mutate.rewrites.original import Original, Replacement, RewrittenNetwork
from deeplab_spec.mutate.rewrites.other_operators import concatenated_first

Apply = Callable[[Original], nn.Module]
Condition = Callable[[Conv2d], bool]
ReplaceNode = Callable[[Node], Replacement]
ReplaceConv = Callable[[Original, Node, Conv2d], Replacement]
ReplaceNodes = Callable[[Original, list[Node], Conv2d], Replacement]


def dense(op: Conv2d) -> bool:
    """Whether a convolution combines channels and pixels."""
    return op.groups == 1 and not op.pointwise


def mixing(op: Conv2d) -> bool:
    """Whether a convolution combines channels only, at every pixel."""
    return op.groups == 1 and op.pointwise and op.stride == (1, 1)


def spatial(op: Conv2d) -> bool:
    """Whether a kernel has more than one tap."""
    return not op.pointwise


def keeping(op: Conv2d) -> bool:
    """Whether a kernel has more than one tap, and stride 1."""
    return not op.pointwise and op.stride == (1, 1)


def atrous(op: Conv2d) -> bool:
    """Whether a convolution has a rate above 1, and stride 1."""
    return keeping(op) and min(op.rate) > 1


def at_convs(condition: Condition, replace_conv: ReplaceConv) -> Apply:
    """Return the rewrite that replaces every convolution for which a condition holds."""
    return lambda original: RewrittenNetwork(
        original, *(replace_conv(original, node, op) for node, op in original.convs(condition))
    )


def at_nodes(kind: type[Op], replace_node: ReplaceNode) -> Apply:
    """Return the rewrite that replaces every node of one operator."""
    return lambda original: RewrittenNetwork(
        original, *(replace_node(node) for node in original.network if isinstance(node.op, kind))
    )


def at_relus(replace_node: ReplaceNode) -> Apply:
    """Return the rewrite that replaces every ReLU."""
    return lambda original: RewrittenNetwork(
        original, *(replace_node(node) for node in original.network if node.op == Activation())
    )


def at_paths(replace_node: ReplaceNode, *paths: str) -> Apply:
    """Return the rewrite that replaces the nodes at some paths, where the network has them."""
    return lambda original: RewrittenNetwork(
        original, *(replace_node(original.network[path]) for path in paths if path in original.network)
    )


def with_rest(condition: Condition, replace_nodes: ReplaceNodes, rest: int) -> Apply:
    """Return the rewrite that replaces convolutions, each with the normalisation and activation after it.

    ``rest`` is the number of nodes after the convolution; where there are fewer, nothing is replaced.
    """

    def apply(original: Original) -> nn.Module:
        readers = original.network.readers()
        replacements = []
        for node, op in original.convs(condition):
            run = [node]
            while len(run) <= rest and len(readers[run[-1].path]) == 1:
                after = original.network[readers[run[-1].path][0]]
                if not isinstance(after.op, BatchNorm | Activation):
                    break
                run.append(after)
            if len(run) > rest:
                replacements.append(replace_nodes(original, run, op))
        return RewrittenNetwork(original, *replacements)

    return apply


def at_sources(original: Original) -> nn.Module:
    """Convolve the inputs of a concatenation one by one, where a dense convolution is its only reader."""
    readers = original.network.readers()
    replacements = []
    for node, op in original.convs(lambda op: op.groups == 1):
        concat = original.network[node.inputs[0]]
        if isinstance(concat.op, Concat) and readers[concat.path] == (node.path,):
            replacements.append(split_sources(original, concat, node, op))
    return RewrittenNetwork(original, *replacements)


def ends_together(*kinds: type[Op]) -> Apply:
    """Return the rewrite that computes the last nodes of the pyramid's branches together, where these are alike."""

    def apply(original: Original) -> nn.Module:
        concat = original.network["aspp.concat"]
        ends = {path: tuple(_ending(original, path, len(kinds))) for path in concat.inputs}
        alike = {
            path: end
            for path, end in ends.items()
            if [type(node.op) for node in end] == list(kinds) and (Conv2d not in kinds or "pointwise" in end[0].path)
        }
        return RewrittenNetwork(original, concatenated_first(original, concat, alike))

    return apply


def _ending(original: Original, path: str, count: int) -> Iterator[Node]:
    """Return the last nodes on the path to a value, in order."""
    run = [original.network[path]]
    while len(run) < count and run[-1].inputs:
        run.append(original.network[run[-1].inputs[0]])
    return reversed(run)
