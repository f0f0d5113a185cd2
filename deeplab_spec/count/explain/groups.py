"""The groups of a network's nodes that a figure may leave out, found in the graph: by its outputs, not by names."""

from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d
from deeplab_spec.spec.network import CLASSIFIER


class Group(StrEnum):
    """A group of nodes that a figure may leave out."""

    BACKBONE = "backbone"
    HEAD = "head"
    AUXILIARY = "auxiliary head"
    LOGITS = "logits layer"
    UNUSED = "parameters that no operation uses"


def logits_layers(network: Network) -> tuple[str, ...]:
    """Return the last convolution before every output that has one, that of the first output first."""
    found = []
    for output in network.outputs:
        node = output
        while not isinstance(node.op, Conv2d) and node.inputs and node.inputs[0] in network:
            node = network[node.inputs[0]]
        if isinstance(node.op, Conv2d):
            found.append(node.path)
    return tuple(dict.fromkeys(found))


def groups_of(network: Network) -> dict[str, Group]:
    """Return the group of every node."""
    main = network.upstream([network.outputs[0].path])
    layers = [CLASSIFIER] if CLASSIFIER in network else list(logits_layers(network)[:1])
    logits = downstream(network, layers) & main
    return {
        node.path: Group.AUXILIARY
        if node.path not in main
        else Group.LOGITS
        if node.path in logits
        else Group.BACKBONE
        if node.path.split(".")[0] in ("backbone", "input")
        else Group.HEAD
        for node in network
    }


def downstream(network: Network, paths: Collection[str]) -> frozenset[str]:
    """Return nodes and all that depends on them."""
    found = set(paths)
    for node in network:
        if not found.isdisjoint(node.inputs):
            found.add(node.path)
    return frozenset(found)


def with_one_more_class(network: Network) -> Network | None:
    """Return the network with one more class in every output; None if its classes cannot be changed.

    The outputs with as many channels as the first are those of classes.
    """
    layers = logits_layers(network)
    if not layers:
        return None
    ops = {path: network[path].op for path in layers}
    classes = ops[layers[0]]
    after = downstream(network, layers) - set(layers)
    changed: dict[str, Node] = {}
    for path, op in ops.items():
        if not isinstance(op, Conv2d) or not isinstance(classes, Conv2d) or op.groups > 1:
            return None
        if op.channels_out == classes.channels_out:
            changed[path] = replace(network[path], op=replace(op, channels_out=op.channels_out + 1))
    if any(isinstance(network[path].op, Conv2d | BatchNorm) for path in after):
        return None
    return network.with_nodes(changed.get(node.path, node) for node in network)
