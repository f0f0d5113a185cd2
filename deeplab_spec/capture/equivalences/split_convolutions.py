"""Splits values that are computed together although their channels are used separately.

An operation on single channels, or on groups of them, may run before or after values are concatenated.
Here it runs before; a convolution whose output channels are split becomes one convolution per range. The
result is one of two equal forms: the comparison takes the form that is nearer to the other graph.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.equivalences.graph_builder import (
    GraphBuilder,
    concat_step,
    own_tensors,
    sliced_step,
    tensor_slices,
)
from deeplab_spec.capture.fx.layout_change import range_of
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Concat, Conv2d, Op

Piece = tuple[str, int]
"""A path, and its number of channels."""


def split_by_channels(captured: Capture) -> Capture:
    """Split every operation whose output channels are used separately."""
    splitter = _Splitter(captured)
    for node in captured.network:
        splitter.write(node)
    return splitter.builder.build()


class _Splitter:
    """Rewrites a capture with its concatenated values split."""

    def __init__(self, captured: Capture) -> None:
        self.captured = captured
        self.network = captured.network
        self.readers = captured.network.readers()
        self.builder = GraphBuilder(captured)
        self.pieces: dict[str, tuple[Piece, ...]] = {}
        self.splittable: dict[str, bool] = {}
        for node in reversed(captured.network.nodes):
            self.splittable[node.path] = self._is_splittable(node.path)

    def write(self, node: Node) -> None:
        """Add a node, once per piece if it is split."""
        before = self.pieces.get(node.inputs[0], ()) if node.inputs else ()
        channels = range_of(node.op)
        if channels and self._select(node, before, channels):
            return
        if isinstance(node.op, Concat):
            self.builder.keep(node)
            self.pieces[node.path] = tuple(piece for path in node.inputs for piece in self._pieces_of(path))
            return
        cuts = self._cuts(node, before) if self.splittable[node.path] else ()
        if len(cuts) > 1:
            self._split(node, before, cuts)
        else:
            self.builder.keep(node)

    def _pieces_of(self, path: str) -> tuple[Piece, ...]:
        return self.pieces.get(path) or ((self.builder.current(path), self.captured.shapes[path][1]),)

    def _is_splittable(self, path: str) -> bool:
        """Tell whether all consumers select or concatenate channels, before any operation mixes them."""
        readers = [self.network[reader] for reader in self.readers[path]]
        return bool(readers) and all(
            range_of(reader.op)
            or isinstance(reader.op, Concat)
            or (_by_channel(reader.op) and self.splittable[reader.path])
            for reader in readers
        )

    def _cuts(self, node: Node, before: tuple[Piece, ...]) -> tuple[Piece, ...]:
        """Return the pieces of a node's value: the input and the number of channels of each; empty for no split."""
        match node.op:
            case BatchNorm() | Activation():
                return before
            case Conv2d(groups=1) as op:
                edges = sorted({0, op.channels_out, *self._edges(node.path)})
                return tuple((node.inputs[0], stop - start) for start, stop in pairwise(edges))
            case Conv2d() as op:
                whole = all(size % (op.channels_in // op.groups) == 0 for _, size in before)
                return tuple((path, size * op.channels_out // op.channels_in) for path, size in before) if whole else ()
            case _:
                return ()

    def _edges(self, path: str) -> Iterator[int]:
        """Yield the channels at which the consumers split a value."""
        for reader in self.readers[path]:
            node = self.network[reader]
            if channels := range_of(node.op):
                yield from channels
            elif isinstance(node.op, BatchNorm | Activation):
                yield from self._edges(reader)

    def _split(self, node: Node, before: tuple[Piece, ...], cuts: tuple[Piece, ...]) -> None:
        """Add a node once per piece, and a concatenation for consumers of the whole value."""
        shape = self.captured.shapes[node.path]
        dense = isinstance(node.op, Conv2d) and node.op.groups == 1
        pieces: list[Piece] = []
        start = read = 0
        for number, (source, size) in enumerate(cuts, start=1):
            width = 0 if dense else before[number - 1][1]
            path = f"{node.path}.part{number}"
            reads = None if dense else (self.captured.shapes[node.inputs[0]][1], read)
            step = sliced_step(self.captured.steps[node.path], start, size, reads)
            inputs = (self.builder.current(source),)
            self.builder.add(node, path, _narrowed(node.op, width, size), inputs, step, (shape[0], size, *shape[2:]))
            for where in own_tensors(self.captured, node.path):
                role = where.rpartition(".")[2]
                self.builder.parts[f"{path}.{role}"] = tensor_slices(self.captured, where, 0, start, size)
            pieces.append((path, size))
            start, read = start + size, read + width
        self._concat(node, tuple(pieces))
        self.pieces[node.path] = tuple(pieces)

    def _concat(self, node: Node, pieces: tuple[Piece, ...]) -> None:
        paths = tuple(path for path, _ in pieces)
        self.builder.add(node, node.path, Concat(), paths, concat_step, self.captured.shapes[node.path])

    def _select(self, node: Node, before: tuple[Piece, ...], channels: tuple[int, int]) -> bool:
        """Replace a range of channels by the pieces that it consists of, if it does."""
        selected: list[Piece] = []
        start = 0
        for path, size in before:
            if channels[0] <= start and start + size <= channels[1]:
                selected.append((path, size))
            start += size
        if not selected or sum(size for _, size in selected) != channels[1] - channels[0]:
            return False
        if len(selected) == 1:
            self.builder.replaced[node.path] = selected[0][0]
        else:
            self._concat(node, tuple(selected))
        self.pieces[node.path] = tuple(selected)
        return True


def _by_channel(op: Op) -> bool:
    """Tell whether an operation computes channels, or groups of them, separately."""
    return isinstance(op, BatchNorm | Activation) or (isinstance(op, Conv2d) and op.groups > 1)


def _narrowed(op: Op, channels_in: int, channels_out: int) -> Op:
    """Return an operation for some of its channels."""
    match op:
        case BatchNorm():
            return replace(op, channels=channels_out)
        case Conv2d(groups=1):
            return replace(op, channels_out=channels_out)
        case Conv2d():
            groups = op.groups * channels_in // op.channels_in
            return replace(op, channels_in=channels_in, channels_out=channels_out, groups=groups)
        case _:
            return op
