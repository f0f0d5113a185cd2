"""Merges convolutions that are computed in parts.

A convolution may be split along its output channels, with the results concatenated, or along its input
channels, with the results summed. Whether several convolutions are parts of one cannot be decided from
one graph: the comparison takes the form that is nearer to the other graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from deeplab_spec.capture.capture import Capture, TensorSlice
from deeplab_spec.capture.equivalences.graph_builder import (
    GraphBuilder,
    composite_step,
    concat_step,
    own_tensors,
    split_step,
    tensor_slices,
)
from deeplab_spec.capture.fx.layout_change import range_of
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Add, Concat, Conv2d

_OUT, _IN = 0, 1
"""The axes of a kernel."""


def merge_concatenated(captured: Capture) -> Capture:
    """Merge convolutions whose results are concatenated and have no other consumer."""
    builder, finder = GraphBuilder(captured), _Finder(captured)
    for node in captured.network:
        merged = finder.concatenated(node) if isinstance(node.op, Concat) else None
        if merged:
            finder.write(builder, node, merged, _OUT, merged.source)
        else:
            builder.keep(node)
    return builder.build()


def merge_summed(captured: Capture) -> Capture:
    """Merge convolutions whose results are summed; the merged one reads their concatenated inputs."""
    builder, finder = GraphBuilder(captured), _Finder(captured)
    sums = finder.all_summed()
    for node in captured.network:
        merged = sums.get(node.path)
        if not merged:
            builder.keep(node)
            continue
        source = merged.source
        if not source:
            source = f"{node.path}.joined"
            values = tuple(builder.current(conv.inputs[0]) for conv in merged.convs)
            shape = captured.shapes[merged.convs[0].inputs[0]]
            builder.add(node, source, Concat(), values, concat_step, (shape[0], merged.op.channels_in, *shape[2:]))
        finder.write(builder, node, merged, _IN, source)
    return builder.build()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Merged:
    """Convolutions that are parts of one."""

    op: Conv2d
    convs: tuple[Node, ...]  # its parts, in order
    source: str  # the common input; empty if each part has its own
    between: tuple[Node, ...]  # from the input to the result, in order


class _Finder:
    """Finds convolutions that may be parts of one."""

    def __init__(self, captured: Capture) -> None:
        self.captured = captured
        self.network = captured.network

    @cached_property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """The paths that read each value."""
        return self.network.readers()

    def concatenated(self, node: Node) -> _Merged | None:
        """Return the convolutions whose results a node concatenates."""
        convs = self._exclusive(node.inputs)
        if len(convs) < 2 or len({_but_channels(conv, _OUT) for conv in convs}) > 1:  # noqa: PLR2004 - parts of one
            return None
        ops = [conv.op for conv in convs if isinstance(conv.op, Conv2d)]
        out = sum(op.channels_out for op in ops)
        sources = {conv.inputs[0] for conv in convs}
        if len(sources) == 1 and ops[0].groups == 1:
            op = replace(ops[0], channels_out=out)
            return _Merged(op=op, convs=convs, source=sources.pop(), between=(*convs, node))
        source = self._whole_input(convs)
        if source is None or len({(op.channels_in // op.groups, op.channels_out // op.groups) for op in ops}) > 1:
            return None
        total = sum(op.channels_in for op in ops)
        op = replace(ops[0], channels_in=total, channels_out=out, groups=sum(op.groups for op in ops))
        ranges = tuple(self.network[conv.inputs[0]] for conv in convs)
        return _Merged(op=op, convs=convs, source=source, between=(*ranges, *convs, node))

    def all_summed(self) -> dict[str, _Merged]:
        """Return all convolutions that are summed, by the path of the last sum."""
        results: dict[str, _Merged] = {}
        inner: set[str] = set()
        for node in reversed(self.network.nodes):
            merged = self.summed(node) if node.path not in inner else None
            if merged:
                results[node.path] = merged
                inner |= {one.path for one in merged.between}
        return results

    def summed(self, node: Node) -> _Merged | None:
        """Return the convolutions that a chain of sums adds up; at most one of them has a bias."""
        sums = self.sum_chain(node)
        inner = {one.path for one in sums}
        convs = self._exclusive([path for one in sums for path in one.inputs if path not in inner])
        if len(convs) < 2 or len({_but_channels(conv, _IN) for conv in convs}) > 1:  # noqa: PLR2004 - parts of one
            return None
        ops = [conv.op for conv in convs if isinstance(conv.op, Conv2d)]
        if sum(op.bias for op in ops) > 1 or ops[0].groups > 1:
            return None
        op = replace(ops[0], channels_in=sum(op.channels_in for op in ops), bias=any(op.bias for op in ops))
        convs = tuple(sorted(convs, key=self._first_channel))
        source = self._whole_input(convs)
        ranges = tuple(self.network[conv.inputs[0]] for conv in convs) if source else ()
        return _Merged(op=op, convs=convs, source=source or "", between=(*ranges, *convs, *sums[::-1]))

    def sum_chain(self, node: Node) -> tuple[Node, ...]:
        """Return a sum and the sums that only it reads, the last first."""
        if not isinstance(node.op, Add):
            return ()
        before = [self.network[path] for path in node.inputs if len(self.readers[path]) == 1]
        return (node, *(one for inner in before for one in self.sum_chain(inner)))

    def write(self, builder: GraphBuilder, node: Node, merged: _Merged, axis: int, source: str) -> None:
        """Add the merged convolution of a value at the path of the last node of its parts."""
        captured = self.captured
        reads = [merged.source] if merged.source else [conv.inputs[0] for conv in merged.convs]
        step = composite_step(reads, merged.between, captured.steps)
        if not merged.source:
            step = split_step(step, [captured.shapes[path][1] for path in reads])
        builder.add(node, node.path, merged.op, (builder.current(source),), step, captured.shapes[node.path])
        for role in ("weight", "bias") if merged.op.bias else ("weight",):
            at, parts = 0, list[TensorSlice]()
            for conv in merged.convs:
                where = f"{conv.path}.{role}"
                if where not in own_tensors(captured, conv.path) or not isinstance(conv.op, Conv2d):
                    continue
                along = 0 if role == "bias" else axis
                size = conv.op.channels_out if along == _OUT else conv.op.channels_in
                parts += tensor_slices(captured, where, along, 0, size, at)
                at += size
            builder.parts[f"{node.path}.{role}"] = tuple(parts)

    def _exclusive(self, paths: Sequence[str]) -> tuple[Node, ...]:
        """Return the convolutions at paths; none if one is another operation or has several consumers."""
        nodes = tuple(self.network[path] for path in paths)
        exclusive = all(isinstance(node.op, Conv2d) and len(self.readers[node.path]) == 1 for node in nodes)
        return nodes if exclusive else ()

    def _whole_input(self, convs: Sequence[Node]) -> str | None:
        """Return the value whose channels the convolutions read range by range, in order; None if they do not."""
        ranges = [self.network[conv.inputs[0]] for conv in convs]
        taken = [channels for node in ranges if (channels := range_of(node.op))]
        sources = {node.inputs[0] for node in ranges if node.inputs}
        if len(taken) != len(convs) or len(sources) != 1:
            return None
        source = sources.pop()
        ends = [*taken, (self.captured.shapes[source][1], 0)]
        return source if taken[0][0] == 0 and all(one[1] == other[0] for one, other in pairwise(ends)) else None

    def _first_channel(self, conv: Node) -> int:
        """Return the first channel that a convolution reads, if it reads a range."""
        return (range_of(self.network[conv.inputs[0]].op) or (0, 0))[0]


def _but_channels(node: Node, axis: int) -> object:
    """Return the properties that parts of one convolution share, split along an axis of the kernel."""
    if not isinstance(node.op, Conv2d):
        return node.path
    if axis == _IN:
        return replace(node.op, channels_in=1, bias=False) if node.op.groups == 1 else node.path
    return replace(node.op, channels_in=1, channels_out=1, groups=1)
