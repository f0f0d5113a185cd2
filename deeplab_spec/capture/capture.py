"""A captured network: its graph, and how to run it node by node; and a network file, which captures itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Self

import torch
from torch import Tensor, nn

from deeplab_spec.capture.fx.layout import Layout
from deeplab_spec.errors import CaptureError, GraphError
from deeplab_spec.execute import interpreter
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import check_numbers, check_shape

if TYPE_CHECKING:
    from deeplab_spec.capture.candidate.module import Remote

MOST_OUTPUTS: Final = 100
"""Largest number of tensors that a network may take or return."""

Step = Callable[[Sequence[Tensor], Mapping[str, Tensor]], Tensor]
"""Runs a node of a captured network as its own framework does: on the values of its inputs, in order, which it does not
change, and on parameters, buffers and constants by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSlice:
    """A slice of a node's tensor, and where the implementation stores it.

    Attributes:
        name: The tensor in the implementation's state.
        view: Maps that tensor to the shape of a parameter; None if it has that shape already.
        axis: The axis along which the node's tensor is split.
        at: First index of the slice in the node's tensor.
        start: First index of the slice in the stored tensor, after ``view``.
        size: Length of the slice.
    """

    name: str
    view: Layout | None
    axis: int
    at: int
    start: int
    size: int

    def view_of(self, tensor: Tensor) -> Tensor:
        """Return the slice of the stored tensor, as a view: writing to it changes the state."""
        return (self.view.place(tensor) if self.view else tensor).narrow(self.axis, self.start, self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """The graph of an implementation, and what is needed to run it node by node.

    Attributes:
        network: The graph, at the size that it was captured with.
        shapes: Shape of every value by path; empty for a value that is not a tensor.
        parameters: Names in the implementation's state, by path and role.
        steps: Runs a node, by path; inputs and outputs have none.
        constants: Tensors of the graph that are not in the state, by name.
        views: Layout that maps a tensor of the state to that of the node, by path and role; a tensor
            without an entry has the node's shape already.
        parts: Slices that form a node's tensor which is not one whole tensor of the state, by path and
            role; such a tensor is not among the parameters.
        again: Nodes of the original graph that are left out as they compute a value again, each with the node that
            computes it first.

    Raises:
        CaptureError: If a value or an attribute is too large to compute with.
    """

    network: Network
    shapes: Mapping[str, tuple[int, ...]]
    parameters: Mapping[str, str]
    steps: Mapping[str, Step]
    constants: Mapping[str, Tensor]
    views: Mapping[str, Layout] = field(default_factory=dict)
    parts: Mapping[str, tuple[TensorSlice, ...]] = field(default_factory=dict)
    again: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, nodes in (("takes", self.network.inputs), ("returns", self.network.outputs)):
            if len(nodes) > MOST_OUTPUTS:
                raise CaptureError(f"it {what} {len(nodes)} tensors; at most {MOST_OUTPUTS} are read")
        try:
            for path, shape in self.shapes.items():
                check_shape(path, shape)
            for node in self.network:
                check_numbers(node.path, node.op)
        except GraphError as error:
            raise CaptureError(str(error)) from error

    def tensor(self, where: str, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return the tensor at a path and role, concatenated if it is stored in slices; None if the state has none."""
        if where in self.parts:
            parts = self.parts[where]
            return torch.cat([part.view_of(state[part.name]) for part in parts], dim=parts[0].axis)
        name = self.parameters.get(where)
        if name is None or name not in state:
            return None
        view = self.views.get(where)
        return state[name] if view is None else view.place(state[name])

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of all nodes by path and role, from the implementation's parameters and buffers."""
        tensors = {**self.constants, **state}
        weights = ((where, self.tensor(where, tensors)) for where in (*self.parameters, *self.parts))
        return {where: tensor for where, tensor in weights if tensor is not None}

    def run(
        self, inputs: Mapping[str, Tensor], state: Mapping[str, Tensor], keep: Collection[str] | None = None
    ) -> interpreter.Values:
        """Execute the graph with the interpreter, and return values by path; opaque nodes run as they were captured.

        Args:
            inputs: A tensor by the path of each input.
            state: The implementation's parameters and buffers by name.
            keep: Paths whose values are returned; all by default. Outputs are always returned.
        """
        return interpreter.run(
            self.network,
            self.weights(state),
            inputs,
            keep=keep,
            opaque=lambda node, values: self.step(node.path, values, state),
        )

    def step(self, path: str, inputs: Sequence[Tensor], state: Mapping[str, Tensor]) -> Tensor:
        """Run a node, which is no input or output, on values of its inputs in order; they are not changed."""
        return self.steps[path](inputs, {**self.constants, **state} if self.constants else state)


Shape = tuple[int | None, ...]
"""Sides of an input; None for a side of any size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """How a candidate is called.

    Attributes:
        train: Whether in training mode.
        gradients: ``off``, ``on`` or ``inference``, for ``torch.inference_mode``.
        original: Whether to call the original of a compiled module.
        autocast: The dtype of automatic mixed precision; None without.
        tf32: Whether float32 products are computed in TF32 on a device that has it.
        rounded: Whether the factors of float32 products are rounded to TF32.
        seed: Seed of the random numbers that it draws; None for another in every call.
        dropout: Whether its dropout is active; if not, its calls are recorded.
        hold: Whether the results are kept for a backward pass, and the inputs of dropout are returned.
        after: Whether the inputs are returned as they are after the call.
        repeat: The number of calls; the results are those of the last, beside those before it, equal ones once.
    """

    train: bool = False
    gradients: str = "off"
    original: bool = True
    autocast: str | None = None
    tf32: bool = False
    rounded: bool = False
    seed: int | None = None
    dropout: bool = True
    hold: bool = False
    after: bool = False
    repeat: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What a call of a candidate returned.

    Attributes:
        kind: The returned type; empty after an error.
        tensors: The returned tensors by their place in the returned value: ``""``, ``[0]``, ``['out']``.
        error: The error, in one line; empty if there was none.
        dropouts: The recorded calls of dropout: the kind, the probability, and the module's name.
        dropped: The inputs of those calls, if the results are held.
        after: The inputs after the call, if they were asked for.
        distinct: The tensors of several calls, those that are equal once.
    """

    kind: str = ""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    error: str = ""
    dropouts: tuple[tuple[str, float, str], ...] = ()
    dropped: tuple[Tensor, ...] = ()
    after: tuple[Tensor, ...] = ()
    distinct: tuple[dict[str, Tensor], ...] = ()


class Candidate(nn.Module, ABC):
    """A network that runs behind a connection. Its tensors are mirrored here: change them, and they are sent.

    Attributes:
        name: The target as the user named it.
        remote: Its requests to the process that it runs in.
        kind: The kind of network, e.g. ``exported program``.
        shapes: The shape of every input, as stated in a file; empty if none is stated.
        tensors: The parameters and buffers by name, in the current dtype; others may be copied into them.
        float32_only: Whether its runtime computes in float32 only. Its graph is executed by the interpreter in
            float64.
        inference_only: Why it cannot be trained; empty if it can.
    """

    kind: str
    remote: "Remote"
    float32_only: bool = False
    inference_only: str = ""

    def __init__(self, name: str, shapes: Sequence[Shape], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.name = name
        try:
            for shape in shapes:
                check_shape("input", tuple(1 if side is None else side for side in shape))
        except GraphError as error:
            raise CaptureError(str(error)) from error
        self.shapes = tuple(shapes)
        self.tensors = dict(tensors)

    @abstractmethod
    def read(self, inputs: Sequence[Tensor]) -> Capture:
        """Read the graph at the size of inputs.

        Raises:
            CaptureError: If it does not accept this size, or its graph cannot be read.
        """

    @abstractmethod
    def call(self, inputs: Sequence[Tensor], settings: CallSettings = CallSettings()) -> Returned:
        """Call it with its current tensors; what it raises is an error in the answer."""

    def begin(self, inputs: Sequence[Tensor], settings: CallSettings = CallSettings()) -> Callable[[], Returned]:
        """Start a call, and return a function that waits for what it returns."""
        returned = self.call(inputs, settings)
        return lambda: returned

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        """Call it in evaluation; return its tensor, or several by their place.

        Raises:
            CaptureError: If it raises an error.
        """
        returned = self.call(inputs)
        if returned.error:
            raise CaptureError(returned.error)
        return returned.tensors[""] if list(returned.tensors) == [""] else returned.tensors

    @property
    def saved(self) -> dict[str, Tensor]:
        """The tensors that are saved with it, by name."""
        return dict(self.tensors)

    def weights_digest(self) -> str:
        """Return the SHA-256 of its tensors: of their names in order, dtypes, shapes and bytes."""
        found = sha256()
        for name, tensor in sorted(self.tensors.items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return found.hexdigest()

    def convert(self, dtypes: Mapping[str, torch.dtype]) -> None:
        """Convert every tensor to a dtype by its name."""
        self.tensors = {name: value.to(dtypes[name]) for name, value in self.tensors.items()}

    def check_inputs(self, inputs: Sequence[Tensor]) -> None:
        """Reject inputs of another number or shape than the file states.

        Raises:
            CaptureError: If an input does not fit; the message names both shapes.
        """
        if len(self.shapes) != len(inputs):
            raise CaptureError(f"the {self.kind} takes {len(self.shapes)} inputs, but got {len(inputs)}")
        for shape, tensor in zip(self.shapes, inputs, strict=True):
            actual = tuple(tensor.shape)
            if len(shape) != len(actual) or any(s not in (None, a) for s, a in zip(shape, actual, strict=True)):
                stated = ", ".join("any" if side is None else str(side) for side in shape)
                raise CaptureError(f"the {self.kind} takes an input of shape ({stated}), but got {actual}")

    def close(self) -> None:
        """End the process that it runs in, if it has one of its own."""
        self.remote.connection.close()

    def give_biases(self, weights: Collection[str]) -> bool:  # noqa: ARG002 - for files that can
        """Add a bias of zeros to the convolutions with these kernels, and tell whether the graph must be read again.

        An exporter that folds a normalisation without an offset writes no bias; the results stay equal.
        """
        return False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002, ARG002 - the framework's signature
        """Convert the tensors, as ``double`` and ``float`` of a module do; one tensor under two names stays one."""
        converted: dict[int, Tensor] = {}
        self.tensors = {name: converted.setdefault(id(old), fn(old)) for name, old in self.tensors.items()}
        return self
