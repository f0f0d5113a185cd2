"""Rewrites a captured network node by node, and the steps that run the rewritten nodes.

One such rewrite is needed wherever a network is compared: a value that is computed several times is one node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from deeplab_spec.capture.capture import Capture, Step, TensorSlice
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Dropout, Input, Margins, Op, Opaque, Output


class GraphBuilder:
    """Collects the nodes of a rewritten capture, in order.

    Attributes:
        replaced: The path whose value replaces that of an original node, by the original path.
    """

    def __init__(self, captured: Capture) -> None:
        self.captured = captured
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.steps: dict[str, Step] = {}
        self.parameters: dict[str, str] = {}
        self.views = dict(captured.views)
        self.parts: dict[str, tuple[TensorSlice, ...]] = {}
        self.replaced: dict[str, str] = {}

    def keep(self, node: Node) -> None:
        """Add an original node; its inputs are replaced."""
        captured = self.captured
        self.nodes[node.path] = replace(node, inputs=tuple(map(self.current, node.inputs)))
        self.shapes[node.path] = captured.shapes[node.path]
        if node.path in captured.steps:
            self.steps[node.path] = captured.steps[node.path]
        for where in own_tensors(captured, node.path):
            if where in captured.parts:
                self.parts[where] = captured.parts[where]
            else:
                self.parameters[where] = captured.parameters[where]

    def add(self, like: Node, path: str, op: Op, inputs: tuple[str, ...], step: Step, shape: tuple[int, ...]) -> None:
        """Add a new node with the source of an original one; set its tensors in ``parts`` or ``parameters``."""
        self.nodes[path] = Node(path=path, op=op, inputs=inputs, source=like.source)
        self.shapes[path], self.steps[path] = shape, step

    def current(self, path: str) -> str:
        """Return the path that holds the value of an original node."""
        while path in self.replaced:
            path = self.replaced[path]
        return path

    def build(self) -> Capture:
        """Return the rewritten capture, without nodes that no output depends on."""
        network = Network(nodes=tuple(self.nodes.values())).live()
        return replace(
            self.captured,
            network=network,
            shapes={node.path: self.shapes[node.path] for node in network},
            steps={path: step for path, step in self.steps.items() if path in network},
            parameters={where: name for where, name in self.parameters.items() if _node(where) in network},
            views={where: view for where, view in self.views.items() if _node(where) in network},
            parts={where: parts for where, parts in self.parts.items() if _node(where) in network},
        )


def merge_recomputed(captured: Capture) -> Capture:
    """Merge nodes that apply one operation with the same tensors to the same values.

    Unknown operations and dropout may give another value every time.
    """
    builder = GraphBuilder(captured)
    first: dict[object, str] = {}
    for node in captured.network:
        stored = (captured.parameters, captured.views, captured.parts)
        tensors = tuple(
            (where.rpartition(".")[2], *(by_place.get(where) for by_place in stored))
            for where in own_tensors(captured, node.path)
        )
        value = (node.op, tuple(map(builder.current, node.inputs)), tensors)
        same = None if isinstance(node.op, _OWN_VALUE) else first.setdefault(value, node.path)
        if same in {None, node.path}:
            builder.keep(node)
        else:
            builder.replaced[node.path] = same
    return replace(builder.build(), again={**captured.again, **builder.replaced}) if builder.replaced else captured


_OWN_VALUE: Final = (Input, Output, Opaque, Dropout)
"""Operations whose values are their own, whatever others compute."""


def own_tensors(captured: Capture, path: str) -> tuple[str, ...]:
    """Return the tensors of a node, by path and role."""
    names = (f"{path}.{role}" for role in ("weight", "bias", "running_mean", "running_var"))
    return tuple(where for where in names if where in captured.parameters or where in captured.parts)


def tensor_slices(
    captured: Capture, where: str, axis: int, start: int, size: int, at: int = 0
) -> tuple[TensorSlice, ...]:
    """Return a slice of a node's tensor as slices of another node's; empty if it is split along another axis.

    The slice begins at ``start`` in the tensor, and at ``at`` in that of the other node.
    """
    if where in captured.parameters:
        name, view = captured.parameters[where], captured.views.get(where)
        return (TensorSlice(name=name, view=view, axis=axis, at=at, start=start, size=size),)
    slices = []
    for part in captured.parts.get(where, ()):
        first, last = max(start, part.at), min(start + size, part.at + part.size)
        if part.axis != axis:
            return ()
        if first < last:
            slices.append(replace(part, at=at + first - start, start=part.start + first - part.at, size=last - first))
    return tuple(slices)


def _node(where: str) -> str:
    return where.rpartition(".")[0]


def composite_step(reads: Sequence[str], nodes: Sequence[Node], steps: Mapping[str, Step]) -> Step:
    """Return a step that runs several nodes, in order, on the values at some paths; the last one gives the result."""

    def run(inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        values = dict(zip(reads, inputs, strict=True))
        for node in nodes:
            values[node.path] = steps[node.path]([values[path] for path in node.inputs], tensors)
        return values[nodes[-1].path]

    return run


def sliced_step(step: Step, start: int, size: int, reads: tuple[int, int] | None) -> Step:
    """Return a step that runs another for a range of its output channels.

    If its input has some channels only, ``reads`` says how many there are in all, and the first one that is given; the
    others are zeros.
    """

    def run(inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        (x,) = inputs
        if reads:
            total, first = reads
            x = functional.pad(x, (0, 0, 0, 0, first, total - first - x.shape[1]))
        return step([x], tensors).narrow(1, start, size)

    return run


def cropped_step(step: Step, margins: Margins, *, within: bool) -> Step:
    """Return a step that crops the result of another by negative margins.

    If its input is cropped already (``within``), the input is padded with zeros to its original size.
    """
    top, bottom, left, right = margins

    def run(inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        if within:
            inputs = [functional.pad(value, (-left, -right, -top, -bottom)) for value in inputs]
        return functional.pad(step(inputs, tensors), (left, right, top, bottom))

    return run


def concat_step(inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG001 - a step
    """Concatenate values along the channels."""
    return torch.cat(list(inputs), dim=1)


def split_step(step: Step, sizes: Sequence[int]) -> Step:
    """Return a step that runs one of several inputs on their concatenation along the channels."""
    return lambda inputs, tensors: step(torch.split(inputs[0], list(sizes), dim=1), tensors)
