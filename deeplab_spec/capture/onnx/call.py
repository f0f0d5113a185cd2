"""One node of an ONNX graph, as the table of operators looks at it, and what it means."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import NodeProto, TensorProto, helper

from deeplab_spec.capture.onnx.values import Array, Values
from deeplab_spec.graph.ops import Op, Pair

PIXEL: Final = (1, 1)
"""A map of one pixel, and what a window does not do: stride, or keep its taps apart."""


@dataclass(frozen=True, slots=True)
class Call:
    """One node of an ONNX graph whose first value is a batch of maps.

    Attributes:
        node: The node.
        values: What is known of what it reads.
        attributes: Its attributes by name, text decoded.
    """

    node: NodeProto
    values: Values
    attributes: dict[str, Any]

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - an operator's attribute
        """Return an attribute."""
        return self.attributes.get(name, default)

    def pair(self, name: str) -> Pair:
        """Return an attribute of two sides; 1 on both where it is not stated."""
        vertical, horizontal = self.get(name) or PIXEL
        return (vertical, horizontal)

    def name(self, position: int) -> str:
        """Return the name of what is read at a position; empty if nothing is."""
        return self.node.input[position] if position < len(self.node.input) else ""

    def constant(self, position: int) -> Array | None:
        """Return what is read at a position, if that is known."""
        return self.values.arrays.get(self.name(position))

    def open(self, position: int) -> bool:
        """Say whether something is read at a position that is not known."""
        return bool(self.name(position)) and self.constant(position) is None

    def shape(self, position: int = 0) -> tuple[int, ...]:
        """Return the shape of what is read at a position."""
        return self.values.shape(self.name(position)) or ()

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of the first value."""
        return self.values.shape(self.node.output[0]) or ()


@dataclass(frozen=True, slots=True)
class Translation:
    """What a node means.

    Attributes:
        op: The record; None if the node gives back what it reads.
        inputs: Names of the values that it reads.
        roles: Names of its own tensors, by role.
    """

    op: Op | None
    inputs: tuple[str, ...]
    roles: tuple[tuple[str, str], ...] = ()


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        found[attribute.name] = f"{tuple(value.dims)}" if isinstance(value, TensorProto) else value
    return found


def decimal(value: float) -> float:
    """Return the shortest number that is the same in float32, in which attributes are kept.

    >>> decimal(9.999999747378752e-06)
    1e-05
    """
    return float(str(np.float32(value)))
