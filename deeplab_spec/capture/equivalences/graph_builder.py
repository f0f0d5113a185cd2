"""A captured network while it is written anew, node by node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from deeplab_spec.capture.capture import Capture, Step, TensorSlice
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Margins, Op


class GraphBuilder:
    """Collects the nodes of a capture that is written anew.

    Args:
        captured: The capture; what is not written keeps nothing in the result.
    """

    def __init__(self, captured: Capture) -> None:
        self.captured = captured
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.steps: dict[str, Step] = {}
        self.parameters: dict[str, str] = {}
        self.views = dict(captured.views)
        self.parts: dict[str, tuple[TensorSlice, ...]] = {}
        self.instead: dict[str, str] = {}

    def keep(self, node: Node) -> None:
        """Keep a node as it is, apart from what it reads."""
        captured = self.captured
        self.nodes[node.path] = replace(node, inputs=tuple(map(self.now, node.inputs)))
        self.shapes[node.path] = captured.shapes[node.path]
        if node.path in captured.steps:
            self.steps[node.path] = captured.steps[node.path]
        for where in own(captured, node.path):
            self._hold(where)

    def put(self, like: Node, path: str, op: Op, inputs: tuple[str, ...], step: Step, shape: tuple[int, ...]) -> None:
        """Write a node at the place of one of the capture; its tensors are given by :meth:`hold`."""
        self.nodes[path] = Node(path=path, op=op, inputs=inputs, source=like.source)
        self.shapes[path], self.steps[path] = shape, step

    def hold(self, where: str, parts: tuple[TensorSlice, ...]) -> None:
        """Say where the tensor of a written node is held, in parts."""
        self.parts[where] = parts

    def now(self, path: str) -> str:
        """Return what stands for a node of the capture now."""
        while path in self.instead:
            path = self.instead[path]
        return path

    def finished(self) -> Capture:
        """Return the capture, without what no output needs."""
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

    def _hold(self, where: str) -> None:
        captured = self.captured
        if where in captured.parts:
            self.parts[where] = captured.parts[where]
        else:
            self.parameters[where] = captured.parameters[where]


def own(captured: Capture, path: str) -> tuple[str, ...]:
    """Return where the tensors of a node are, by path and role."""
    roles = ("weight", "bias", "running_mean", "running_var")
    found = (f"{path}.{role}" for role in roles)
    return tuple(where for where in found if where in captured.parameters or where in captured.parts)


def tensor_slices(
    captured: Capture, where: str, axis: int, start: int, size: int, at: int = 0
) -> tuple[TensorSlice, ...]:
    """Return a slice of a node's tensor as slices of another node's; empty if it is stored along another axis.

    Args:
        captured: The capture.
        where: Path and role of the node that has the tensor.
        axis: The axis of the stretch.
        start: Where it begins in that tensor.
        size: How far it goes.
        at: Where it begins in the other node's tensor.
    """
    if where in captured.parameters:
        name, view = captured.parameters[where], captured.views.get(where)
        return (TensorSlice(name=name, view=view, axis=axis, at=at, start=start, size=size),)
    found = []
    for part in captured.parts.get(where, ()):
        first, last = max(start, part.at), min(start + size, part.at + part.size)
        if part.axis != axis:
            return ()
        if first < last:
            found.append(replace(part, at=at + first - start, start=part.start + first - part.at, size=last - first))
    return tuple(found)


def _node(where: str) -> str:
    return where.rpartition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeStep:
    """Runs several captured calls as one.

    Attributes:
        reads: Paths of the values that are given, in order.
        nodes: What is run, in order; the last is the result.
        steps: What runs each, by path.
    """

    reads: tuple[str, ...]
    nodes: tuple[Node, ...]
    steps: Mapping[str, Step]

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Run the calls on given values."""
        values = dict(zip(self.reads, inputs, strict=True))
        for node in self.nodes:
            values[node.path] = self.steps[node.path]([values[path] for path in node.inputs], tensors)
        return values[self.nodes[-1].path]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSliceStep:
    """Runs a call for a stretch of its channels.

    Attributes:
        step: What runs the call.
        reads: Channels that the call reads, and the first of those that are given; None if all are.
        start: The first channel of the result that is wanted.
        size: How many are.
    """

    step: Step
    reads: tuple[int, int] | None
    start: int
    size: int

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Run the call, with zeros in the channels that are not given."""
        (x,) = inputs
        if self.reads:
            total, first = self.reads
            x = functional.pad(x, (0, 0, 0, 0, first, total - first - x.shape[1]))
        return self.step([x], tensors).narrow(1, self.start, self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class CroppedStep:
    """Runs a call whose result is cropped.

    Attributes:
        step: What runs the call.
        margins: What is cut, as negative margins.
        within: Whether the value that is given was cropped before, and must be of its old size for the call.
    """

    step: Step
    margins: Margins
    within: bool

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Run the call, with zeros where the value was cut."""
        top, bottom, left, right = self.margins
        if self.within:
            inputs = [functional.pad(value, (-left, -right, -top, -bottom)) for value in inputs]
        return functional.pad(self.step(inputs, tensors), (left, right, top, bottom))


@dataclass(frozen=True, slots=True)
class ConcatStep:
    """Joins values along the channels."""

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002 - a step
        """Return the joined value."""
        return torch.cat(list(inputs), dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitInputStep:
    """Runs what reads several values on those values joined along the channels.

    Attributes:
        step: What reads them.
        sizes: The channels of each.
    """

    step: Step
    sizes: tuple[int, ...]

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """TensorSlice the value, and run what reads the parts."""
        return self.step(torch.split(inputs[0], list(self.sizes), dim=1), tensors)
