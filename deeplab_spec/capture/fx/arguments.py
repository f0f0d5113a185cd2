"""The arguments of a captured call, and where they have their elements."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from torch import fx

from deeplab_spec.capture.fx.layout import Layout, whole

MAP: Final = 4
"""Axes of a batch of maps."""

CHANNELS: Final = 1
"""The axis of a batch of maps that counts channels."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """Where the arguments of a call have their elements.

    Attributes:
        value: Returns the layout of a value of the network; None for what is none.
        tensors: Layouts of parameters and buffers.
    """

    value: Callable[[fx.Node], Layout | None]
    tensors: Mapping[fx.Node, Layout]

    def map(self, argument: object) -> Layout | None:
        """Return the layout of a value whose base is a batch of maps."""
        layout = self.value(argument) if isinstance(argument, fx.Node) else None
        return layout if layout and len(layout.base) == MAP else None

    def tensor(self, argument: object) -> Layout | None:
        """Return the layout of a parameter or buffer."""
        return self.tensors.get(argument) if isinstance(argument, fx.Node) else None

    def vector(self, argument: object, size: int) -> Layout | None:
        """Return the layout of a parameter or buffer as a vector that can be written to."""
        tensor = self.tensor(argument)
        vector = tensor.reshaped((size,)) if tensor else None
        return vector if vector and vector.strided else None


def with_channels(layout: Layout, axis: int, channels: int) -> Layout | None:
    """Return the layout of the same maps with other channels; None if that axis of the value is not theirs.

    Args:
        layout: A value whose base is a batch of maps.
        axis: The axis of the value that counts channels, and nothing else.
        channels: How many there shall be.
    """
    if layout.axes[axis] != whole(CHANNELS, layout.base[CHANNELS]):
        return None
    batch, _, *sides = layout.base
    axes = (*layout.axes[:axis], whole(CHANNELS, channels), *layout.axes[axis + 1 :])
    return Layout((batch, channels, *sides), axes)
