"""Other channel counts, with everything that reads them made to fit."""

from collections.abc import Mapping
from dataclasses import replace

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Add, BatchNorm, Concat, Conv2d, Op


def with_channels(graph: Network, more: Mapping[str, int]) -> Network | None:
    """Return a network in which convolutions give more channels, or fewer.

    Args:
        graph: The network.
        more: Channels that are added, by the path of the convolution.

    Returns:
        The network; None where a sum, or a convolution in groups, reads the channels that changed: they
        cannot be changed alone.
    """
    added: dict[str, int] = {}
    nodes: list[Node] = []
    for node in graph:
        arriving = [added.get(path, 0) for path in node.inputs]
        op = _fitted(node.op, arriving)
        if op is None:
            return None
        added[node.path] = more.get(node.path, 0) + _passed_on(node.op, arriving)
        if isinstance(op, Conv2d) and node.path in more:
            op = replace(op, channels_out=op.channels_out + more[node.path])
        nodes.append(replace(node, op=op))
    return graph.with_nodes(nodes)


def reading(graph: Network, path: str, *inputs: str, channels: Mapping[str, int]) -> Network | None:
    """Return a network in which one node reads other values, and everything after it fits their channels.

    Args:
        graph: The network.
        path: The node.
        inputs: What it reads instead.
        channels: Channels of every value, by path.

    Returns:
        The network; None where what reads the node cannot have other channels.
    """
    added: dict[str, int] = {}
    nodes: list[Node] = []
    for node in graph:
        read = inputs if node.path == path else node.inputs
        before = [channels[value] for value in node.inputs]
        arriving = [added.get(value, 0) for value in read]
        if node.path == path:
            arriving = [channels[value] - old for value, old in zip(read, before, strict=False)]
            if isinstance(node.op, Concat):
                arriving = [sum(channels[value] for value in read) - sum(before)]
        op = _fitted(node.op, arriving)
        if op is None:
            return None
        added[node.path] = _passed_on(node.op, arriving)
        nodes.append(replace(node, op=op, inputs=read))
    return graph.with_nodes(nodes)


def _fitted(op: Op, arriving: list[int]) -> Op | None:
    """Return an operation that takes what arrives; None if there is none."""
    change = sum(arriving) if isinstance(op, Concat) else next(iter(arriving), 0)
    match op:
        case Conv2d() if change and op.depthwise and op.channels_out == op.channels_in:
            count = op.channels_in + change
            return replace(op, channels_in=count, channels_out=count, groups=count)
        case Conv2d() if change:
            return replace(op, channels_in=op.channels_in + change) if op.groups == 1 else None
        case BatchNorm() if change:
            return replace(op, channels=op.channels + change)
        case Add() if len(set(arriving)) > 1:
            return None
        case _:
            return op


def _passed_on(op: Op, arriving: list[int]) -> int:
    """Return by how many channels the result of an operation grows."""
    match op:
        case Conv2d():
            return arriving[0] if op.depthwise and op.channels_out == op.channels_in else 0
        case Concat():
            return sum(arriving)
        case _:
            return arriving[0] if arriving else 0
