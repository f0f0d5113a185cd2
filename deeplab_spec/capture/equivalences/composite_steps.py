"""Steps of nodes that stand for several captured calls, or for a stretch of what one call computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deeplab_spec.capture.capture import Step
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Margins


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
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
class Stretch:
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
class Cropped:
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
class Joined:
    """Joins values along the channels."""

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002 - a step
        """Return the joined value."""
        return torch.cat(list(inputs), dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """Runs what reads several values on those values joined along the channels.

    Attributes:
        step: What reads them.
        sizes: The channels of each.
    """

    step: Step
    sizes: tuple[int, ...]

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Part the value, and run what reads the parts."""
        return self.step(torch.split(inputs[0], list(self.sizes), dim=1), tensors)
