"""Values that are computed together and taken apart again, or joined too early, each by itself.

What treats every channel, or every group of channels, by itself may run before or after values are
joined. Here it runs before; a convolution whose results are split by channels becomes one for
each part. The form is one of two that are equal, so who compares takes the nearer.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.equivalences.graph_builder import (
    ChannelSliceStep,
    ConcatStep,
    GraphBuilder,
    own,
    tensor_slices,
)
from deeplab_spec.capture.fx.data_movement import range_of
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Concat, Conv2d, Op

Piece = tuple[str, int]
"""A path, and its channels."""


def split_by_channels(captured: Capture) -> Capture:
    """Compute by itself what is computed together although its parts go different ways."""
    return _Parting(captured).finished()


class _Parting:
    """Writes a capture with its joined values taken apart."""

    def __init__(self, captured: Capture) -> None:
        self.captured = captured
        self.network = captured.network
        self.readers = captured.network.readers()
        self.builder = GraphBuilder(captured)
        self.pieces: dict[str, tuple[Piece, ...]] = {}
        self.wanted: dict[str, bool] = {}
        for node in reversed(captured.network.nodes):
            self.wanted[node.path] = self._parts_wanted(node.path)

    def finished(self) -> Capture:
        """Return the capture."""
        for node in self.network:
            self._write(node)
        return self.builder.finished()

    def _write(self, node: Node) -> None:
        before = self.pieces.get(node.inputs[0], ()) if node.inputs else ()
        taken = range_of(node.op)
        if taken and self._select(node, before, taken):
            return
        if isinstance(node.op, Concat):
            self.builder.keep(node)
            self.pieces[node.path] = tuple(piece for path in node.inputs for piece in self._pieces_of(path))
            return
        cuts = self._cuts(node, before) if self.wanted[node.path] else ()
        if len(cuts) > 1:
            self._part(node, before, cuts)
        else:
            self.builder.keep(node)

    def _pieces_of(self, path: str) -> tuple[Piece, ...]:
        return self.pieces.get(path) or ((self.builder.now(path), self.captured.shapes[path][1]),)

    def _parts_wanted(self, path: str) -> bool:
        """Tell whether the channels of a value go different ways, or join others, with nothing mixed before."""
        readers = [self.network[reader] for reader in self.readers[path]]
        return bool(readers) and all(
            range_of(reader.op)
            or isinstance(reader.op, Concat)
            or (_by_channel(reader.op) and self.wanted[reader.path])
            for reader in readers
        )

    def _cuts(self, node: Node, before: tuple[Piece, ...]) -> tuple[Piece, ...]:
        """Return the pieces of a node's value: their channels, under what they read; empty if it stays whole."""
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
        """Return where the channels of a value are cut."""
        for reader in self.readers[path]:
            node = self.network[reader]
            if taken := range_of(node.op):
                yield from taken
            elif isinstance(node.op, BatchNorm | Activation):
                yield from self._edges(reader)

    def _part(self, node: Node, before: tuple[Piece, ...], cuts: tuple[Piece, ...]) -> None:
        """Write a node once for each piece, and join what the pieces give for who reads it whole."""
        shape = self.captured.shapes[node.path]
        dense = isinstance(node.op, Conv2d) and node.op.groups == 1
        made: list[Piece] = []
        start = read = 0
        for number, (source, size) in enumerate(cuts, start=1):
            width = 0 if dense else before[number - 1][1]
            path = f"{node.path}.part{number}"
            reads = None if dense else (self.captured.shapes[node.inputs[0]][1], read)
            step = ChannelSliceStep(step=self.captured.steps[node.path], reads=reads, start=start, size=size)
            inputs = (self.builder.now(source),)
            self.builder.put(node, path, _narrowed(node.op, width, size), inputs, step, (shape[0], size, *shape[2:]))
            for where in own(self.captured, node.path):
                role = where.rpartition(".")[2]
                self.builder.hold(f"{path}.{role}", tensor_slices(self.captured, where, 0, start, size))
            made.append((path, size))
            start, read = start + size, read + width
        self._join(node, tuple(made))
        self.pieces[node.path] = tuple(made)

    def _join(self, node: Node, pieces: tuple[Piece, ...]) -> None:
        paths = tuple(path for path, _ in pieces)
        self.builder.put(node, node.path, Concat(), paths, ConcatStep(), self.captured.shapes[node.path])

    def _select(self, node: Node, before: tuple[Piece, ...], taken: tuple[int, int]) -> bool:
        """Read the pieces that a range of channels consists of, instead of the range."""
        found: list[Piece] = []
        start = 0
        for path, size in before:
            if taken[0] <= start and start + size <= taken[1]:
                found.append((path, size))
            start += size
        if not found or sum(size for _, size in found) != taken[1] - taken[0]:
            return False
        if len(found) == 1:
            self.builder.instead[node.path] = found[0][0]
        else:
            self._join(node, tuple(found))
        self.pieces[node.path] = tuple(found)
        return True


def _by_channel(op: Op) -> bool:
    """Tell whether an operation treats channels, or groups of them, by themselves."""
    return isinstance(op, BatchNorm | Activation) or (isinstance(op, Conv2d) and op.groups > 1)


def _narrowed(op: Op, reads: int, makes: int) -> Op:
    """Return an operation for some of its channels."""
    match op:
        case BatchNorm():
            return replace(op, channels=makes)
        case Conv2d(groups=1):
            return replace(op, channels_out=makes)
        case Conv2d():
            return replace(op, channels_in=reads, channels_out=makes, groups=op.groups * reads // op.channels_in)
        case _:
            return op
