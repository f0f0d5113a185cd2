"""Finds the head in a whole network by structure: the pyramid, what the decoder reads beside it, and their ends.

A pyramid is a concatenation of branches that read one value, each with a convolution and none with a stride, some
with a rate or with the average over the whole map. What it reads ends the backbone, whichever backbone that is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from deeplab_spec.align.order import Ancestors
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    GlobalAveragePool,
    Input,
    Opaque,
    Pool,
    Resize,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where the head of a whole network begins and ends; each value by its path.

    Attributes:
        image: The input of the network.
        features: What the pyramid reads.
        taps: What the decoder reads beside the pyramid, in order.
        pyramid: The end of the pyramid.
        logits: The end of the decoder, before the last resize.
    """

    image: str
    features: str
    taps: tuple[str, ...]
    pyramid: str
    logits: str

    def inputs(self, part: str) -> tuple[str, ...]:
        """Return the values that a part reads, in the order of its inputs in the specification."""
        reads = {"backbone": (self.image,), "aspp": (self.features,), "decoder": (self.pyramid, *self.taps)}
        return reads.get(part, (self.features, *self.taps))

    def outputs(self, part: str) -> Mapping[str, str]:
        """Return the results of a part by their names in the specification."""
        if part == "backbone":
            return {"backbone": self.features} | dict(zip(("low_level",), self.taps, strict=False))
        return {"aspp": self.pyramid} if part == "aspp" else {"decoder": self.logits}


def find_head(network: Network) -> Head | None:
    """Find the head of a whole network; None if nothing in it has the structure of a pyramid.

    >>> from deeplab_spec.spec.network import network
    >>> from deeplab_spec.spec.variants import TF_RESNET50
    >>> found = find_head(network(TF_RESNET50.choices))
    >>> found.features, found.taps, found.pyramid, found.logits
    ('backbone.layer4.block3.activation', ('backbone.layer1.block2.conv3.norm',), 'aspp.dropout', 'decoder.logits.conv')
    """
    if len(network.inputs) != 1 or not network.outputs:
        return None
    end = network.outputs[0].path
    within = _Ancestors(network)
    concats = (node for node in network if isinstance(node.op, Concat) and within.before(node.path, end))
    for concat in reversed(list(concats)):
        features = _features(within, concat)
        if features:
            return _head(within, features, concat.path, end)
    return None


def features_of(network: Network) -> str | None:
    """Return what the pyramid reads, else the last value that is averaged over the whole map; None without either."""
    head = find_head(network)
    if head:
        return head.features
    pooled = [node.inputs[0] for node in network if isinstance(node.op, GlobalAveragePool)]
    return pooled[-1] if pooled else None


class _Ancestors(Ancestors):
    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.readers = network.readers()


def _features(within: _Ancestors, concat: Node) -> str:
    """Return the value that every branch of a pyramid reads; empty if a concatenation is none."""
    branches = [within.of([path]) for path in concat.inputs]
    shared = branches[0]
    for branch in branches[1:]:
        shared &= branch
    for node in reversed(list(within.nodes(shared))):
        before = within.of([node.path])
        inside = [list(within.nodes(branch & ~before)) for branch in branches]
        if any(isinstance(each.op, Conv2d) and each.op.stride != (1, 1) for branch in inside for each in branch):
            return ""
        if len(branches) > 1 and _is_pyramid(node.path, inside):
            return _before_unit(within, node.path)
    return ""


def _is_pyramid(features: str, branches: list[list[Node]]) -> bool:
    """Tell whether branches read one value alone, each with a convolution, some with a rate or an average."""
    nodes = {node.path: node for branch in branches for node in branch}
    alone = all(path == features or path in nodes for node in nodes.values() for path in node.inputs)
    convolved = all(any(isinstance(node.op, Conv2d) for node in branch) for branch in branches)
    wide = any(
        isinstance(node.op, GlobalAveragePool | Pool) or (isinstance(node.op, Conv2d) and node.op.rate != (1, 1))
        for node in nodes.values()
    )
    return alone and convolved and wide


def _before_unit(within: _Ancestors, path: str) -> str:
    """Return the input of the depthwise convolution that a value ends, if only one branch reads on from it."""
    node = within.network[path]
    if len(within.readers[path]) != 1:
        return path
    while isinstance(node.op, BatchNorm | Activation):
        node = within.network[node.inputs[0]]
    depthwise = isinstance(node.op, Conv2d) and node.op.depthwise and node.op.rate != (1, 1)
    return node.inputs[0] if depthwise else path


def _head(within: _Ancestors, features: str, concat: str, end: str) -> Head:
    backbone = within.of([features])
    inside = list(within.nodes(within.of([end]) & ~backbone))
    taps: dict[str, None] = {}
    for node in inside:
        for path in node.inputs:
            outside = path != features and backbone >> within.position[path] & 1
            if outside and not isinstance(within.network[path].op, Input):
                taps.setdefault(_known_value(within, path, {each.path for each in inside}))
    after = [node for node in inside if within.before(concat, node.path)]
    logits = _end_of_decoder(within, concat, end)
    return Head(
        image=within.network.inputs[0].path,
        features=features,
        taps=tuple(taps),
        pyramid=_end_of_pyramid(within, concat, after, logits),
        logits=logits,
    )


def _known_value(within: _Ancestors, path: str, inside: set[str]) -> str:
    """Return a value after unknown operations: they belong to the backbone, as no head has one."""
    while True:
        readers = [reader for reader in within.readers[path] if reader in inside]
        if len(readers) != 1 or not isinstance(within.network[readers[0]].op, Opaque):
            return path
        path = readers[0]


def _end_of_pyramid(within: _Ancestors, concat: str, after: list[Node], logits: str) -> str:
    """Return the value that the decoder reads: before its resize; without a decoder, before the last convolution."""
    paths = {node.path for node in after}
    joint = next((node for node in after if node.path != concat and set(node.inputs) - paths), None)
    if joint and within.before(joint.path, logits):
        node = within.network[next(path for path in joint.inputs if path in paths)]
        return node.inputs[0] if isinstance(node.op, Resize) else node.path
    node = within.network[logits]
    while node.path != concat:
        if isinstance(node.op, Conv2d):
            return node.inputs[0]
        node = within.network[node.inputs[0]]
    return concat


def _end_of_decoder(within: _Ancestors, concat: str, end: str) -> str:
    """Return the value before the last resize, which is followed by 1x1 convolutions at most; or the output's."""
    node = within.network[end]
    last = node.inputs[0]
    while node.path != concat and not isinstance(node.op, Add | Concat | Input):
        if isinstance(node.op, Resize):
            return node.inputs[0]
        if isinstance(node.op, Conv2d) and not node.op.pointwise:
            break
        node = within.network[node.inputs[0]]
    return last
