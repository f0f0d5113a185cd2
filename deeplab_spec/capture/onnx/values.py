"""What is known of the values of an ONNX graph without running it: constants, shapes, and what follows from them.

Operators are evaluated, and shapes inferred, one node after the other, by the ``onnx`` package itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from deeplab_spec.capture.onnx.model import label, printable
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
"""Operators of constants and shapes; all others of constants only stay in the graph."""

_MOST_VALUES: Final = 2**27
"""Values that all evaluated results may have together."""

_SMALL: Final = 1024
"""Values of a constant on which the shape of a result can depend."""


class Values:
    """The values of a graph, as far as they are known.

    Attributes:
        arrays: Values that depend on constants and shapes only, by name.
        types: Type and shape of every value whose type is known, by name.
        opset: Version of the standard's operators.
        left: Values that may still be computed.
    """

    def __init__(self, opset: int, arrays: Mapping[str, Array] | None = None) -> None:
        self.opset = opset
        self.left = _MOST_VALUES
        self.arrays: dict[str, Array] = {}
        self.types: dict[str, TypeProto] = {}
        for name, array in (arrays or {}).items():
            self.hold(name, array)

    def hold(self, name: str, array: Array) -> None:
        """Note a value that is known."""
        self.arrays[name] = array
        self.types[name] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    def declare(self, name: str, shape: Sequence[int]) -> None:
        """Note the shape of a batch of images, whose values are not known."""
        self.types[name] = helper.make_tensor_type_proto(TensorProto.FLOAT, shape)

    def known(self, node: NodeProto) -> bool:
        """Say whether a node's values depend on constants and shapes only."""
        if node.op_type in {"Shape", "Size"}:
            return self.shape(node.input[0]) is not None
        return node.op_type in _EVALUATED and all(name in self.arrays for name in node.input if name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a value; None where it is not known."""
        found = self.types.get(name)
        if found is None or not found.tensor_type.HasField("shape"):
            return None
        sides = found.tensor_type.shape.dim
        return tuple(side.dim_value for side in sides) if all(side.HasField("dim_value") for side in sides) else None

    def dtype(self, name: str) -> int:
        """Return the type of a value's numbers; 0 where it is not known."""
        found = self.types.get(name)
        return found.tensor_type.elem_type if found is not None else TensorProto.UNDEFINED

    def infer(self, node: NodeProto) -> None:
        """Note the types of a node's values.

        Raises:
            CaptureError: If the operator cannot be applied to what the node reads.
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
            found = onnx.shape_inference.infer_node_outputs(schema, node, types, small, opset_imports=opsets)
        except Exception as error:
            raise CaptureError(f"{label(node)}: {printable(one_line(error))}") from error
        self.types |= {name: kind for name, kind in found.items() if kind.HasField("tensor_type")}

    def evaluate(self, node: NodeProto) -> None:
        """Compute a node whose values are known.

        Raises:
            CaptureError: If it cannot be computed, or only to more values than a graph has reason to.
        """
        if node.op_type in {"Shape", "Size"}:
            sides = self.shape(node.input[0]) or ()
            reads: list[Array | None] = [np.broadcast_to(np.zeros((), dtype=np.uint8), sides)]
        else:
            self.infer(node)
            self._afford(node)
            reads = [self.arrays[name] if name else None for name in node.input]
        for name, array in zip(node.output, compute(node, reads, self.opset), strict=False):
            if name:
                self.hold(name, np.asarray(array))

    def _afford(self, node: NodeProto) -> None:
        for name in filter(None, node.output):
            shape = self.shape(name)
            if shape is None or math.prod(shape) > self.left:
                raise CaptureError(f"{label(node)}: the size of its result cannot be told, or is too large")
            self.left -= math.prod(shape)


def compute(node: NodeProto, inputs: Sequence[Array | None], opset: int) -> list[Array]:
    """Run one node on given values.

    Raises:
        CaptureError: If it cannot be run.
    """
    names = [name for name in node.input if name]
    feeds = {name: array for name, array in zip(node.input, inputs, strict=True) if name}
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "one node",
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in dict.fromkeys(names)],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
    )
    try:
        with np.errstate(all="ignore"):
            results = dict(zip(outputs, ReferenceEvaluator(graph, {"": opset}).run(None, feeds), strict=True))
    except Exception as error:
        raise CaptureError(f"{label(node)}: {printable(one_line(error))}") from error
    return [results.get(name, np.zeros(0)) for name in node.output]


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
