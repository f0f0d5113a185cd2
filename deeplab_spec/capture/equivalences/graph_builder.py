"""Rewrites a captured network node by node, and the steps that run the rewritten nodes.

One such rewrite is needed wherever a network is compared: a value that is computed several times is one node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from deeplab_spec.capture.capture import Capture, Step, TensorSlice
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Dropout, Input, Margins, Op, Opaque, Output


class GraphBuilder:
    """Collects the nodes of a rewritten capture, in order.

    Args:
        captured: The original capture.

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
        tensors = [
            (
                where.rpartition(".")[2],
                captured.parameters.get(where),
                captured.views.get(where),
                captured.parts.get(where),
            )
            for where in own_tensors(captured, node.path)
        ]
        value = (node.op, tuple(map(builder.current, node.inputs)), tuple(tensors))
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

    Args:
        captured: The capture.
        where: Path and role of the tensor.
        axis: The axis of the slice.
        start: First index of the slice in that tensor.
        size: Length of the slice.
        at: First index of the slice in the other node's tensor.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeStep:
    """Runs several captured calls as one.

    Attributes:
        reads: Paths of the input values, in order.
        nodes: The calls, in order; the last one gives the result.
        steps: Runs each call, by path.
    """

    reads: tuple[str, ...]
    nodes: tuple[Node, ...]
    steps: Mapping[str, Step]

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Run the calls."""
        values = dict(zip(self.reads, inputs, strict=True))
        for node in self.nodes:
            values[node.path] = self.steps[node.path]([values[path] for path in node.inputs], tensors)
        return values[self.nodes[-1].path]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSliceStep:
    """Runs a call for a slice of its output channels.

    Attributes:
        step: Runs the whole call.
        reads: Number of the call's input channels, and the first one that is given; None if all are given.
        start: First channel of the slice.
        size: Number of channels of the slice.
    """

    step: Step
    reads: tuple[int, int] | None
    start: int
    size: int

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Run the call, with zeros in the input channels that are not given."""
        (x,) = inputs
        if self.reads:
            total, first = self.reads
            x = functional.pad(x, (0, 0, 0, 0, first, total - first - x.shape[1]))
        return self.step([x], tensors).narrow(1, self.start, self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class CroppedStep:
    """Runs a call and crops its result.

    Attributes:
        step: Runs the call.
        margins: The crop, as negative margins.
        within: Whether the input is cropped already; it is padded to its original size for the call.
    """

    step: Step
    margins: Margins
    within: bool

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Run the call, with zeros in place of cropped inputs."""
        top, bottom, left, right = self.margins
        if self.within:
            inputs = [functional.pad(value, (-left, -right, -top, -bottom)) for value in inputs]
        return functional.pad(self.step(inputs, tensors), (left, right, top, bottom))


@dataclass(frozen=True, slots=True)
class ConcatStep:
    """Concatenates values along the channels."""

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002 - a step
        """Return the concatenated value."""
        return torch.cat(list(inputs), dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitInputStep:
    """Runs a step of several inputs on one input, which is split along the channels.

    Attributes:
        step: The step of several inputs.
        sizes: The channels of each.
    """

    step: Step
    sizes: tuple[int, ...]

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Split the value, and run the step."""
        return self.step(torch.split(inputs[0], list(self.sizes), dim=1), tensors)
