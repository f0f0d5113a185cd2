"""Runs a captured network in float64, and detects values that are not finite."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deeplab_spec.capture.capture import Capture
from deeplab_spec.execute.interpreter import Values


class Overflow:
    """Watches the specification's own values: nothing can be compared with one that is not finite.

    Attributes:
        path: The first node whose value is not finite; empty while all are.
    """

    def __init__(self) -> None:
        self.path = ""

    def __call__(self, path: str, value: Tensor) -> None:
        """Check the value of a node."""
        if not self.path and not bool(value.isfinite().all()):
            self.path = path

    def reason(self, precision: str) -> str:
        """Return why nothing can be compared in a precision; empty if all values are finite."""
        return f"the specification itself is not finite in {precision} at {self.path}" if self.path else ""


def overflow_of(path: str, value: Tensor, precision: str) -> str:
    """Return why nothing can be compared with a value of the specification; empty if it is finite."""
    overflow = Overflow()
    overflow(path, value)
    return overflow.reason(precision)


def double(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, unless it is of an integer dtype."""
    return tensor.double() if tensor.is_floating_point() else tensor


def in_double(captured: Capture) -> Capture:
    """Return a capture whose constants are in float64."""
    return replace(captured, constants={name: double(tensor) for name, tensor in captured.constants.items()})


def executed(captured: Capture, state: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Values:
    """Run a captured graph with the interpreter in float64; unknown operations run as they were captured.

    Args:
        captured: The graph.
        state: Parameters and buffers by name, in float64.
        inputs: Its arguments.

    Returns:
        The values of its outputs, by path.
    """
    captured = in_double(captured)
    named = {node.path: double(value) for node, value in zip(captured.network.inputs, inputs, strict=True)}
    with torch.no_grad():
        return captured.run(named, state, keep=())
