"""Values and shapes of an ONNX graph that are known without running it, and one node of the graph.

The ``onnx`` package evaluates operators and infers shapes, node by node.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from deeplab_spec.capture.onnx.model import label
from deeplab_spec.errors import CaptureError, one_line
from deeplab_spec.graph.ops import Op, Pair

Array = np.ndarray[Any, np.dtype[Any]]

# fmt: off
_EVALUATED: Final = frozenset({
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape",
    "DequantizeLinear", "Div", "Equal", "Expand", "Flatten", "Floor", "Gather", "Greater", "GreaterOrEqual",
    "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Range", "ReduceMax",
    "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "ScatterND", "Shape", "Sign", "Size", "Slice",
    "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where", "Xor",
})
# fmt: on
"""Operators that are evaluated if their inputs are known; all others stay in the graph."""

_MOST_VALUES: Final = 2**27
"""Maximum number of elements of all evaluated results together."""

_SMALL: Final = 1024
"""Maximum number of elements of a constant on which the shape of a result can depend."""


class Values:
    """The known values of a graph.

    Attributes:
        arrays: Values that depend on constants and shapes only, by name.
        types: Type and shape of every value whose type is known, by name.
        opset: Version of the standard's operators.
        budget: Number of elements that may still be evaluated.
        makers: The node that computes a value, by name, of the nodes that were read.
    """

    def __init__(self, opset: int, arrays: Mapping[str, Array] | None = None) -> None:
        self.opset = opset
        self.budget = _MOST_VALUES
        self.arrays: dict[str, Array] = {}
        self.types: dict[str, TypeProto] = {}
        self.makers: dict[str, NodeProto] = {}
        for name, array in (arrays or {}).items():
            self.set_array(name, array)

    def set_array(self, name: str, array: Array) -> None:
        """Set a known value."""
        self.arrays[name] = array
        self.types[name] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    def declare(self, name: str, shape: Sequence[int]) -> None:
        """Set the shape of a batch of images, whose values are unknown."""
        self.types[name] = helper.make_tensor_type_proto(TensorProto.FLOAT, shape)

    def known(self, node: NodeProto) -> bool:
        """Tell whether a node's values depend on constants and shapes only."""
        if node.op_type in {"Shape", "Size"}:
            return self.shape(node.input[0]) is not None
        return node.op_type in _EVALUATED and all(name in self.arrays for name in node.input if name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a value; None if it is unknown."""
        kind = self.types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        sides = kind.tensor_type.shape.dim
        return tuple(side.dim_value for side in sides) if all(side.HasField("dim_value") for side in sides) else None

    def dtype(self, name: str) -> int:
        """Return the element type of a value; 0 if it is unknown."""
        kind = self.types.get(name)
        return kind.tensor_type.elem_type if kind is not None else TensorProto.UNDEFINED

    def infer(self, node: NodeProto) -> None:
        """Infer the types of a node's values.

        Raises:
            CaptureError: If the operator cannot be applied to the node's inputs.
        """
        if any(name and name not in self.types for name in node.input):
            return
        small = {
            name: numpy_helper.from_array(self.arrays[name])
            for name in node.input
            if name in self.arrays and self.arrays[name].size <= _SMALL
        }
        opsets = [helper.make_opsetid("", self.opset)]
        types = {name: self.types[name] for name in node.input if name}
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
            inferred = onnx.shape_inference.infer_node_outputs(schema, node, types, small, opset_imports=opsets)
        except Exception as error:
            raise CaptureError(f"{label(node)}: {one_line(error)}") from error
        self.types |= {name: kind for name, kind in inferred.items() if kind.HasField("tensor_type")}

    def evaluate(self, node: NodeProto) -> None:
        """Compute a node whose inputs are known.

        Raises:
            CaptureError: If it cannot be computed, or its result exceeds the budget.
        """
        if node.op_type in {"Shape", "Size"}:
            sides = self.shape(node.input[0]) or ()
            reads: list[Array | None] = [np.broadcast_to(np.zeros((), dtype=np.uint8), sides)]
        else:
            self.infer(node)
            self._check_budget(node)
            reads = [self.arrays[name] if name else None for name in node.input]
        for name, array in zip(node.output, compute(node, reads, self.opset), strict=False):
            if name:
                self.set_array(name, np.asarray(array))

    def _check_budget(self, node: NodeProto) -> None:
        for name in filter(None, node.output):
            shape = self.shape(name)
            if shape is None or math.prod(shape) > self.budget:
                raise CaptureError(f"{label(node)}: the size of its result is unknown or too large")
            self.budget -= math.prod(shape)


def compute(node: NodeProto, inputs: Sequence[Array | None], opset: int) -> list[Array]:
    """Run one node on given values.

    Raises:
        CaptureError: If it cannot be run.
    """
    feeds = {name: array for name, array in zip(node.input, inputs, strict=True) if name}
    outputs = [name for name in node.output if name]
    reads, writes = (
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in names]
        for names in (feeds, outputs)
    )
    graph = helper.make_graph([node], "one node", reads, writes)
    try:
        with np.errstate(all="ignore"):
            results = dict(zip(outputs, ReferenceEvaluator(graph, {"": opset}).run(None, feeds), strict=True))
    except Exception as error:
        raise CaptureError(f"{label(node)}: {one_line(error)}") from error
    return [results.get(name, np.zeros(0)) for name in node.output]


PIXEL: Final = (1, 1)
"""The size of a map of one pixel; also a stride or a rate of 1."""


@dataclass(frozen=True, slots=True)
class Call:
    """One node of an ONNX graph whose first value is a batch of maps.

    Attributes:
        node: The node.
        values: The known values of the graph.
        attributes: Its attributes by name, text decoded.
    """

    node: NodeProto
    values: Values
    attributes: dict[str, Any]

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - an operator's attribute
        """Return an attribute."""
        return self.attributes.get(name, default)

    def pair(self, name: str) -> Pair:
        """Return an attribute of two sides; 1 for both by default."""
        vertical, horizontal = self.get(name) or PIXEL
        return (vertical, horizontal)

    def name(self, position: int) -> str:
        """Return the name of the input at a position; empty if there is none."""
        return self.node.input[position] if position < len(self.node.input) else ""

    def constant(self, position: int) -> Array | None:
        """Return the value of the input at a position if it is known."""
        return self.values.arrays.get(self.name(position))

    def open(self, position: int) -> bool:
        """Tell whether there is an input at a position whose value is unknown."""
        return bool(self.name(position)) and self.constant(position) is None

    def bounds(self) -> tuple[float, float] | None:
        """Return the numbers that a clip is between; None if they are unknown."""
        if self.open(1) or self.open(2):
            return None
        low, high = (
            self.get(name, beyond) if (bound := self.constant(position)) is None else float(bound)
            for position, name, beyond in ((1, "min", -math.inf), (2, "max", math.inf))
        )
        return (low, high)

    def shape(self, position: int = 0) -> tuple[int, ...]:
        """Return the shape of the input at a position."""
        return self.values.shape(self.name(position)) or ()

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of the first value."""
        return self.values.shape(self.node.output[0]) or ()


@dataclass(frozen=True, slots=True)
class Translation:
    """A node as an operation of the network.

    Attributes:
        op: The operation; None if the node returns its input.
        inputs: Names of the values that it reads.
        roles: Names of its own tensors, by role.
    """

    op: Op | None
    inputs: tuple[str, ...]
    roles: tuple[tuple[str, str], ...] = ()


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name."""
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        attributes[attribute.name] = f"{tuple(value.dims)}" if isinstance(value, TensorProto) else value
    return attributes


def decimal(value: float) -> float:
    """Return the shortest number that is equal in float32, the precision of attributes.

    >>> decimal(9.999999747378752e-06)
    1e-05
    """
    return float(str(np.float32(value)))
