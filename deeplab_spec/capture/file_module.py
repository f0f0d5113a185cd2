"""A network that came as a file: it runs like a module, and reads its graph itself.

The floors above handle a file as they handle a module: it is called, turned to another dtype, read
as a graph and given other weights. What a file fixes that a module leaves open, it says.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

from torch import Tensor, nn

from deeplab_spec.capture.capture import Capture

Shape = tuple[int | None, ...]
"""Sides of an input; None for one that is free."""


class FileModule(nn.Module, ABC):
    """A network that came as a file.

    Attributes:
        name: What the user named.
        kind: What it is, in words, e.g. ``exported program``.
        shapes: The shape of every input that the file states.
        tensors: Its weights by name, of the dtype that it has now; others may be copied into them.
        float32_only: Whether its runtime computes in float32 only; in float64 its graph is executed instead.
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
            CaptureError: If the file does not take this size, or its graph cannot be read.
        """

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - what the network returns
        """Run the file with its current weights."""

    def give_biases(self, weights: Collection[str]) -> bool:  # noqa: ARG002 - for files that can
        """Give convolutions without a bias one of zeros, with which they compute the same.

        An exporter that folds a normalisation without an offset writes no bias at all.

        Args:
            weights: Names of the convolutions' kernels.

        Returns:
            Whether it was done; then the graph must be read again.
        """
        return False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002, ARG002 - the framework's signature
        """Turn the weights to another dtype: what ``double`` and ``float`` of a module do."""
        self.tensors = {name: fn(tensor) for name, tensor in self.tensors.items()}
        return self
