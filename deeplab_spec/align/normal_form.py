"""The normal form of a network: the network without everything that has no effect in evaluation.

Each pass is one known equivalence. Two networks that differ only by these equivalences have the same normal form.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Final

from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.analysis.intervals import never_negative
from deeplab_spec.analysis.sizes import explicit_padding
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import (
    NO_MARGINS,
    Activation,
    ActivationKind,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    Margins,
    Op,
    Pad,
    Pair,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
)

BROADCAST: Final = Resize(mode=ResizeMode.NEAREST, align_corners=False)
"""The record of any resize of a single pixel, but for its size."""


def normal_form(shaped: Shaped) -> Shaped:
    """Return the network without everything that has no effect at its input size, in evaluation."""
    for rewrite in PASSES:
        shaped = rewrite(shaped)
    return shaped


def explicit_sizes(shaped: Shaped) -> Shaped:
    """State the target size of every resize and the margins of every padding rule."""

    def state(node: Node) -> Node:
        match node.op:
            case Resize() as op:
                size = shaped.map_size(node.path)
                return replace(node, op=replace(op, size=size), inputs=node.inputs[:1])
            case (Conv2d(padding="same") | Pool(padding="same")) as op:
                size = shaped.map_size(node.inputs[0]) or (1, 1)
                rate = op.rate if isinstance(op, Conv2d) else (1, 1)
                return replace(node, op=replace(op, padding=explicit_padding("same", size, op.kernel, op.stride, rate)))
            case _:
                return node

    resizes = (node for node in shaped.network if isinstance(node.op, Resize) and len(node.inputs) > 1)
    likes = {node.path: node.inputs[1] for node in resizes}
    return replace(shaped, network=shaped.network.with_nodes(map(state, shaped.network)), likes=likes)


def without_dropout(shaped: Shaped) -> Shaped:
    """Remove dropout, which does nothing in evaluation."""
    return _bypass(shaped, lambda node: isinstance(node.op, Dropout))


def without_momentum(shaped: Shaped) -> Shaped:
    """Remove the momentum of normalisations, which has an effect in training only."""

    def forget(node: Node) -> Op:
        return replace(node.op, momentum=None) if isinstance(node.op, BatchNorm) else node.op

    return _with_ops(shaped, forget)


def without_useless_strides(shaped: Shaped) -> Shaped:
    """Set the stride of a 1x1 convolution of a single pixel to 1: it has one position."""

    def unstrided(node: Node) -> Op:
        if not isinstance(node.op, Conv2d) or not node.op.pointwise or node.op.padding != NO_MARGINS:
            return node.op
        return replace(node.op, stride=(1, 1)) if shaped.map_size(node.inputs[0]) == (1, 1) else node.op

    return _with_ops(shaped, unstrided)


def without_useless_rates(shaped: Shaped) -> Shaped:
    """Set the rate along an axis with a single tap to 1: there is no distance between taps."""

    def single(node: Node) -> Op:
        if not isinstance(node.op, Conv2d):
            return node.op
        vertical, horizontal = (
            1 if taps == 1 else rate for taps, rate in zip(node.op.kernel, node.op.rate, strict=True)
        )
        return node.op if (vertical, horizontal) == node.op.rate else replace(node.op, rate=(vertical, horizontal))

    return _with_ops(shaped, single)


def merged_pads(shaped: Shaped) -> Shaped:
    """Merge two pads, or two crops, one after the other, into one; the first stays for other readers."""
    pads: dict[str, Node] = {}

    def merge(node: Node) -> Node:
        if not isinstance(node.op, Pad):
            return node
        before = pads.get(node.inputs[0])
        if before and isinstance(before.op, Pad) and _add_up(before.op, node.op):
            top, bottom, left, right = (a + b for a, b in zip(before.op.margins, node.op.margins, strict=True))
            op = replace(before.op, margins=(top, bottom, left, right))
            node = replace(node, op=op, inputs=before.inputs)
        pads[node.path] = node
        return node

    return live(shaped.with_network(shaped.network.with_nodes([merge(node) for node in shaped.network])))


def _add_up(first: Pad, second: Pad) -> bool:
    margins = (*first.margins, *second.margins)
    if max(margins) <= 0:
        return True
    return min(margins) >= 0 and first.mode == second.mode == "constant" and first.value == second.value


def flat_concats(shaped: Shaped) -> Shaped:
    """Replace a concatenation of a concatenation by one of all parts."""
    parts: dict[str, tuple[str, ...]] = {}

    def join(node: Node) -> Node:
        if not isinstance(node.op, Concat):
            return node
        parts[node.path] = tuple(part for path in node.inputs for part in parts.get(path, (path,)))
        return replace(node, inputs=parts[node.path])

    return shaped.with_network(shaped.network.with_nodes([join(node) for node in shaped.network]))


def padding_into_convolutions(shaped: Shaped) -> Shaped:
    """Move zero padding into the convolution that follows it."""
    return _with_padding(shaped, lambda _, op: op.value == 0, lambda op: isinstance(op, Conv2d))


def padding_into_pools(shaped: Shaped) -> Shaped:
    """Move padding that never wins into the maximum that follows it: minus infinity, or zeros of a map without less."""
    positive = never_negative(shaped.network)
    return _with_padding(
        shaped,
        lambda node, op: op.value == -inf or (op.value == 0 and node.inputs[0] in positive),
        lambda op: isinstance(op, Pool) and op.kind is PoolKind.MAX and not op.ceil_mode,
    )


def _with_padding(shaped: Shaped, neutral: Callable[[Node, Pad], bool], takes: Callable[[Op], bool]) -> Shaped:
    """Add the margins of neutral pads to the windows that read them, where all of these take it; remove the pads."""
    network, readers = shaped.network, shaped.network.readers()
    merged: dict[str, Margins] = {
        node.path: node.op.margins
        for node in network
        if isinstance(node.op, Pad)
        and node.op.mode == "constant"
        and min(node.op.margins) >= 0
        and neutral(node, node.op)
        and all(takes(network[reader].op) for reader in readers[node.path])
    }

    def merge(node: Node) -> Node:
        if not isinstance(node.op, Conv2d | Pool) or node.op.padding == "same" or node.inputs[0] not in merged:
            return node
        outer, inner = merged[node.inputs[0]], node.op.padding
        top, bottom, left, right = (first + second for first, second in zip(outer, inner, strict=True))
        return replace(node, op=replace(node.op, padding=(top, bottom, left, right)))

    rewritten = shaped.with_network(network.with_nodes(map(merge, network)))
    return _bypass(rewritten, lambda node: node.path in merged)


def same_pools(shaped: Shaped) -> Shaped:
    """Give pools that compute the same one record: a window that overhangs has a margin, a pixel is its maximum."""

    def rewrite(node: Node) -> Op:
        op = node.op
        if not isinstance(op, Pool) or op.padding == "same":
            return op
        if op.kernel == (1, 1) and op.padding == NO_MARGINS:
            return Pool(kind=PoolKind.MAX, kernel=op.kernel, stride=op.stride)
        if op.ceil_mode and (op.kind is PoolKind.MAX or not op.count_margin):
            return _not_overhanging(op, shaped.map_size(node.inputs[0]), shaped.map_size(node.path))
        return op

    return _with_ops(shaped, rewrite)


def _not_overhanging(op: Pool, before: Pair | None, after: Pair | None) -> Pool:
    """Return a pool without overhang, if no window of it leaves the map and its margins."""
    if before is None or after is None or op.padding == "same":
        return op
    top, bottom, left, right = op.padding
    sides = zip(before, after, op.kernel, op.stride, (top + bottom, left + right), strict=True)
    fits = all((there - 1) * stride + taps <= here + margin for here, there, taps, stride, margin in sides)
    return replace(op, ceil_mode=False) if fits else op


def without_useless_activations(shaped: Shaped) -> Shaped:
    """Remove ReLUs of values that are never negative."""
    positive = never_negative(shaped.network)
    identities = {ActivationKind.RELU, ActivationKind.LEAKY_RELU, ActivationKind.ELU}

    def useless(node: Node) -> bool:
        rectifies = isinstance(node.op, Activation) and node.op.kind in identities
        return rectifies and node.inputs[0] in positive

    return _bypass(shaped, useless)


def shared_activations(shaped: Shaped) -> Shaped:
    """Keep one of several equal activations of the same value."""
    first: dict[tuple[Op, str], str] = {}
    again: dict[str, str] = {}
    readers = shaped.network.readers()
    for node in shaped.network:
        if isinstance(node.op, Activation):
            kept = first.setdefault((node.op, node.inputs[0]), node.path)
            if kept != node.path and readers[node.path]:
                again[node.path] = kept
    return _instead(shaped, again)


def broadcasts(shaped: Shaped) -> Shaped:
    """Give every resize of a single pixel the same record: with any rule, it is a broadcast."""

    def rewrite(node: Node) -> Op:
        if isinstance(node.op, Resize) and shaped.map_size(node.inputs[0]) == (1, 1):
            return replace(BROADCAST, size=node.op.size)
        if isinstance(node.op, Resize) and node.op.mode is ResizeMode.NEAREST:
            return replace(node.op, align_corners=False)
        return node.op

    return _with_ops(shaped, rewrite)


def live(shaped: Shaped) -> Shaped:
    """Remove nodes that no output depends on."""
    return shaped.with_network(shaped.network.live())


def _with_ops(shaped: Shaped, change: Callable[[Node], Op]) -> Shaped:
    """Return a network with changed operations; unchanged nodes are kept as they are."""
    ops = [(node, change(node)) for node in shaped.network]
    nodes = (node if op is node.op else replace(node, op=op) for node, op in ops)
    return shaped.with_network(shaped.network.with_nodes(nodes))


def _bypass(shaped: Shaped, useless: Callable[[Node], bool]) -> Shaped:
    """Remove nodes; their readers read their input instead."""
    return _instead(shaped, {node.path: node.inputs[0] for node in shaped.network if useless(node)})


def _instead(shaped: Shaped, others: Mapping[str, str]) -> Shaped:
    """Remove nodes; their readers read another, earlier value instead."""
    return shaped.with_network(shaped.network.without(others)) if others else shaped


PASSES: Final = (
    explicit_sizes,
    without_dropout,
    without_momentum,
    without_useless_rates,
    without_useless_strides,
    flat_concats,
    merged_pads,
    padding_into_convolutions,
    padding_into_pools,
    same_pools,
    without_useless_activations,
    shared_activations,
    broadcasts,
    live,
)
"""Every known equivalence, in the order in which they are applied."""
