"""A captured network: its graph, and what is needed to run it step by step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from deeplab_spec.capture.fx.layout import Layout
from deeplab_spec.graph.network import Network


class Step(Protocol):
    """Runs one operation of a captured network as its own framework does."""

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the value of a node.

        Args:
            inputs: The values that it reads, in order; they are not changed.
            tensors: Parameters, buffers and constants by name.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSlice:
    """A stretch of a node's tensor, and where the implementation holds it.

    Attributes:
        name: The tensor in the implementation's state.
        view: Where that has the elements of a parameter; None for where it has them anyway.
        axis: The axis along which the node's tensor is parted.
        at: Where the stretch begins in the node's tensor.
        start: Where it begins in the tensor of the state, as that is read.
        size: How far it goes.
    """

    name: str
    view: Layout | None
    axis: int
    at: int
    start: int
    size: int

    def view_of(self, tensor: Tensor) -> Tensor:
        """Return the stretch of the state's tensor; what is written to it is written to the state."""
        return (self.view.place(tensor) if self.view else tensor).narrow(self.axis, self.start, self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """The graph of an implementation, and what is needed to run it step by step.

    Attributes:
        network: The graph, at the size that it was captured with.
        shapes: Shape of every value by path; empty for what is no tensor.
        parameters: Names in the implementation's state, by path and role.
        steps: What runs a node, by path; not for inputs and outputs.
        constants: Tensors of the graph that are not in the state, by name.
        views: Where the tensor of a node has the elements of the one in the state, by path and role; a
            tensor without an entry has the shape that its node wants.
        parts: Where a node's tensor is held that is no whole tensor of the state, by path and role; such a
            tensor is not among the parameters.
    """

    network: Network
    shapes: Mapping[str, tuple[int, ...]]
    parameters: Mapping[str, str]
    steps: Mapping[str, Step]
    constants: Mapping[str, Tensor]
    views: Mapping[str, Layout] = field(default_factory=dict)
    parts: Mapping[str, tuple[TensorSlice, ...]] = field(default_factory=dict)

    def tensor(self, where: str, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return the tensor of a node, put together if it is held in parts; None if the state has none.

        Args:
            where: Path and role.
            state: Parameters, buffers and constants by name.
        """
        if where in self.parts:
            parts = self.parts[where]
            return torch.cat([part.view_of(state[part.name]) for part in parts], dim=parts[0].axis)
        name = self.parameters.get(where)
        return self.as_read(where, state[name]) if name is not None and name in state else None

    def as_read(self, where: str, tensor: Tensor) -> Tensor:
        """Return a tensor of the state as its node reads it; what is written to it is written to the state.

        Args:
            where: Path and role.
            tensor: The tensor in the state.
        """
        view = self.views.get(where)
        return tensor if view is None else view.place(tensor)

    def step(self, path: str, inputs: Sequence[Tensor], state: Mapping[str, Tensor]) -> Tensor:
        """Run the captured call of one node on given values.

        Args:
            path: The node; not an input or output.
            inputs: Its inputs' values, in order.
            state: The implementation's parameters and buffers by name.

        Returns:
            The node's value. The inputs are not changed.
        """
        return self.steps[path](inputs, {**self.constants, **state} if self.constants else state)
