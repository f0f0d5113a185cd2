"""Small modules to capture: aliasing, shared layers, buffers, functions as modules; and a check of captures."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.fx.module import state_of

CHANNELS = 3


class Result(NamedTuple):
    """A result with names."""

    out: Tensor
    aux: Tensor


class Wrapped(nn.Module):
    """A function as a module, with the layers that it uses."""

    def __init__(self, function: Any, **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs: Tensor) -> Any:
        """Call the function."""
        return self.function(self, *inputs)


class Residual(nn.Module):
    """A block whose main path starts with a ReLU.

    Args:
        in_place: Whether the ReLU overwrites what the skip reads.
    """

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=in_place)
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.entry = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Add the main path to the skip."""
        x = self.entry(x)
        return self.norm(self.conv(self.relu(x))) + x


class DroppedThenOverwritten(nn.Module):
    """A dropout, which returns its argument in evaluation, before an in-place ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Add the overwritten value to the name it had before."""
        x = self.entry(x)
        y = self.dropout(x)
        return functional.relu_(y) + x


class Shared(nn.Module):
    """One layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer, and again."""
        return self.conv(self.conv(x).relu())


class Buffered(nn.Module):
    """A module with a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.ones(1, CHANNELS, 1, 1), persistent=False)
        self.register_buffer("scale", torch.full((1, CHANNELS, 1, 1), 2.0))
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale, move and convolve."""
        return self.conv(x * self.scale + self.offset)


def assert_capture_runs(module: nn.Module, captured: Capture, image: Tensor, tolerance: float = 0.0) -> None:
    """Check that the interpreter, and the captured calls in order, give the module's result."""
    state = state_of(module)
    values = {"input": image.clone()}
    with torch.no_grad():
        expected = module(image.clone())
        interpreted = captured.run({"input": image.clone()}, state)
        for node in captured.network:
            inputs = [values[path] for path in node.inputs]
            if node.path in captured.steps:
                values[node.path] = captured.step(node.path, inputs, state)
                assert tuple(values[node.path].shape) == captured.shapes[node.path], node.path
            elif inputs:
                values[node.path] = inputs[0]
    (output,) = captured.network.outputs
    for name, actual in (("interpreter", interpreted), ("captured calls", values)):
        torch.testing.assert_close(
            actual[output.path], expected, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )
