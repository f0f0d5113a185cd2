"""A network that is loaded from a file: a module that reads its own graph.

Everything above this package treats a file as a module: calls it, converts it to another dtype, reads
its graph and loads other weights. The attributes say what a file fixes and a module does not.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

from torch import Tensor, nn

from deeplab_spec.capture.capture import Capture
from deeplab_spec.errors import CaptureError

Shape = tuple[int | None, ...]
"""Sides of an input; None for a side of any size."""


class FileModule(nn.Module, ABC):
    """A network that is loaded from a file.

    Attributes:
        name: The target as the user named it.
        kind: The kind of file, e.g. ``exported program``.
        shapes: The shape of every input, as stated in the file.
        tensors: The weights by name, in the current dtype; others may be copied into them.
        float32_only: Whether the file's runtime computes in float32 only. Its graph is executed by the
            interpreter in float64.
    """

    kind: str
    float32_only: bool = False

    def __init__(self, name: str, shapes: Sequence[Shape], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.name = name
        self.shapes = tuple(shapes)
        self.tensors = dict(tensors)

    @abstractmethod
    def read(self, inputs: Sequence[Tensor]) -> Capture:
        """Read the graph at the size of inputs.

        Raises:
            CaptureError: If the file does not accept this size, or its graph cannot be read.
        """

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - what the network returns
        """Run the file with its current weights."""

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

    def give_biases(self, weights: Collection[str]) -> bool:  # noqa: ARG002 - for files that can
        """Add a bias of zeros to convolutions without one; the results stay equal.

        An exporter that folds a normalisation without an offset writes no bias.

        Args:
            weights: Names of the convolutions' kernels.

        Returns:
            Whether biases were added; then the graph must be read again.
        """
        return False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002, ARG002 - the framework's signature
        """Convert the weights, as ``double`` and ``float`` of a module do."""
        self.tensors = {name: fn(tensor) for name, tensor in self.tensors.items()}
        return self
