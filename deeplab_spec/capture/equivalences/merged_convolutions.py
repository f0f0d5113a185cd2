"""Convolutions that are computed in parts, as one.

A convolution may be cut along its results, whose parts are joined, or along what it reads, and then
its parts are summed. Whether several convolutions are the parts of one, no graph of its own tells:
who compares it with another graph takes the form that is nearer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from deeplab_spec.capture.capture import Capture, TensorSlice
from deeplab_spec.capture.equivalences.graph_builder import (
    CompositeStep,
    ConcatStep,
    GraphBuilder,
    SplitInputStep,
    own,
    tensor_slices,
)
from deeplab_spec.capture.fx.data_movement import range_of
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Add, Concat, Conv2d

_OUT, _IN = 0, 1
"""The axes of a kernel."""


def merge_concatenated(captured: Capture) -> Capture:
    """Make one convolution of those whose results a concatenation joins, and nothing else reads."""
    builder, parts = GraphBuilder(captured), _Parts(captured)
    for node in captured.network:
        found = parts.joined(node) if isinstance(node.op, Concat) else None
        if found:
            parts.write(builder, node, found, _OUT, (found.source,))
        else:
            builder.keep(node)
    return builder.finished()


def merge_summed(captured: Capture) -> Capture:
    """Make one convolution of those that are summed, of what they read together."""
    builder, parts = GraphBuilder(captured), _Parts(captured)
    sums = parts.sums()
    for node in captured.network:
        found = sums.get(node.path)
        if not found:
            builder.keep(node)
            continue
        source = found.source
        if not source:
            source = f"{node.path}.joined"
            values = tuple(builder.now(conv.inputs[0]) for conv in found.convs)
            shape = captured.shapes[found.convs[0].inputs[0]]
            builder.put(node, source, Concat(), values, ConcatStep(), (shape[0], found.op.channels_in, *shape[2:]))
        parts.write(builder, node, found, _IN, (source,))
    return builder.finished()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Merged:
    """Convolutions that are one.

    Attributes:
        op: The one.
        convs: Its parts, in order.
        source: The value that they read together; empty if each reads one of its own.
        between: Nodes from the parts to the result, in order.
    """

    op: Conv2d
    convs: tuple[Node, ...]
    source: str
    between: tuple[Node, ...]


class _Parts:
    """Finds convolutions that may be parts of one."""

    def __init__(self, captured: Capture) -> None:
        self.captured = captured
        self.network = captured.network

    @cached_property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """The paths that read each value."""
        return self.network.readers()

    def joined(self, node: Node) -> _Merged | None:
        """Return the convolutions whose results a concatenation joins."""
        convs = self._alone(node.inputs)
        if len(convs) < 2 or len({_but_channels(conv, _OUT) for conv in convs}) > 1:  # noqa: PLR2004 - parts of one
            return None
        ops = [conv.op for conv in convs if isinstance(conv.op, Conv2d)]
        out = sum(op.channels_out for op in ops)
        sources = {conv.inputs[0] for conv in convs}
        if len(sources) == 1 and ops[0].groups == 1:
            return _Merged(
                op=replace(ops[0], channels_out=out), convs=convs, source=sources.pop(), between=(*convs, node)
            )
        source = self._covered(convs)
        if source is None or len({(op.channels_in // op.groups, op.channels_out // op.groups) for op in ops}) > 1:
            return None
        total = sum(op.channels_in for op in ops)
        op = replace(ops[0], channels_in=total, channels_out=out, groups=sum(op.groups for op in ops))
        ranges = tuple(self.network[conv.inputs[0]] for conv in convs)
        return _Merged(op=op, convs=convs, source=source, between=(*ranges, *convs, node))

    def sums(self) -> dict[str, _Merged]:
        """Return the convolutions that sums add up, by the path of the last sum."""
        found: dict[str, _Merged] = {}
        inner: set[str] = set()
        for node in reversed(self.network.nodes):
            united = self.summed(node) if node.path not in inner else None
            if united:
                found[node.path] = united
                inner |= {one.path for one in united.between}
        return found

    def summed(self, node: Node) -> _Merged | None:
        """Return the convolutions that a sum, or several in a row, adds up; at most one has a bias."""
        sums = self.summands(node)
        inner = {one.path for one in sums}
        convs = self._alone([path for one in sums for path in one.inputs if path not in inner])
        if len(convs) < 2 or len({_but_channels(conv, _IN) for conv in convs}) > 1:  # noqa: PLR2004 - parts of one
            return None
        ops = [conv.op for conv in convs if isinstance(conv.op, Conv2d)]
        if sum(op.bias for op in ops) > 1 or ops[0].groups > 1:
            return None
        op = replace(ops[0], channels_in=sum(op.channels_in for op in ops), bias=any(op.bias for op in ops))
        convs = tuple(sorted(convs, key=self._first))
        source = self._covered(convs)
        ranges = tuple(self.network[conv.inputs[0]] for conv in convs) if source else ()
        return _Merged(op=op, convs=convs, source=source or "", between=(*ranges, *convs, *sums[::-1]))

    def summands(self, node: Node) -> tuple[Node, ...]:
        """Return a sum with the sums that it alone reads, the last first."""
        if not isinstance(node.op, Add):
            return ()
        before = [self.network[path] for path in node.inputs if len(self.readers[path]) == 1]
        return (node, *(one for inner in before for one in self.summands(inner)))

    def write(self, builder: GraphBuilder, node: Node, found: _Merged, axis: int, inputs: tuple[str, ...]) -> None:
        """Write the one convolution in the place of the last of its parts."""
        captured = self.captured
        step = CompositeStep(
            reads=(found.source,) if found.source else tuple(conv.inputs[0] for conv in found.convs),
            nodes=found.between,
            steps=captured.steps,
        )
        widths = () if found.source else tuple(captured.shapes[conv.inputs[0]][1] for conv in found.convs)
        whole = SplitInputStep(step=step, sizes=widths) if widths else step
        inputs = tuple(map(builder.now, inputs))
        builder.put(node, node.path, found.op, inputs, whole, captured.shapes[node.path])
        for role in ("weight", "bias") if found.op.bias else ("weight",):
            at = 0
            parts: list[TensorSlice] = []
            for conv in found.convs:
                if f"{conv.path}.{role}" not in own(captured, conv.path) or not isinstance(conv.op, Conv2d):
                    continue
                along = 0 if role == "bias" else axis
                size = conv.op.channels_out if along == _OUT else conv.op.channels_in
                parts += tensor_slices(captured, f"{conv.path}.{role}", along, 0, size, at)
                at += size
            builder.hold(f"{node.path}.{role}", tuple(parts))

    def _alone(self, paths: Sequence[str]) -> tuple[Node, ...]:
        """Return the convolutions at paths; none if one is something else or is read twice."""
        nodes = tuple(self.network[path] for path in paths)
        alone = all(isinstance(node.op, Conv2d) and len(self.readers[node.path]) == 1 for node in nodes)
        return nodes if alone else ()

    def _covered(self, convs: Sequence[Node]) -> str | None:
        """Return the value whose channels convolutions read range by range, in order; None if they do not."""
        ranges = [self.network[conv.inputs[0]] for conv in convs]
        taken = [found for node in ranges if (found := range_of(node.op))]
        sources = {node.inputs[0] for node in ranges if node.inputs}
        if len(taken) != len(convs) or len(sources) != 1:
            return None
        source = sources.pop()
        whole = [*taken, (self.captured.shapes[source][1], 0)]
        return source if taken[0][0] == 0 and all(one[1] == other[0] for one, other in pairwise(whole)) else None

    def _first(self, conv: Node) -> int:
        """Return the first channel that a convolution reads, if it reads a range."""
        return (range_of(self.network[conv.inputs[0]].op) or (0, 0))[0]


def _but_channels(node: Node, axis: int) -> object:
    """Return what parts of one convolution have in common, cut along an axis of the kernel."""
    if not isinstance(node.op, Conv2d):
        return node.path
    if axis == _IN:
        return replace(node.op, channels_in=1, bias=False) if node.op.groups == 1 else node.path
    return replace(node.op, channels_in=1, channels_out=1, groups=1)
