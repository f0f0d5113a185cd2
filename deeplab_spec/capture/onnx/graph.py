"""Reads the graph of an ONNX model at one size of its inputs.

Values that depend on shapes and constants only are computed. An operator that returns its input is no
node of the network.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, numpy_helper
from torch import Tensor

from deeplab_spec.capture.capture import Capture, Step
from deeplab_spec.capture.onnx.model import label, opset_of, short
from deeplab_spec.capture.onnx.operators import opaque, translate
from deeplab_spec.capture.onnx.values import Array, Translation, Values, compute
from deeplab_spec.errors import CaptureError, one_line
from deeplab_spec.execute import interpreter
from deeplab_spec.graph.network import Network, Node, Source
from deeplab_spec.graph.ops import MAP_RANK, Input, Op, Output, check_shape

_OWN: Final = {"Conv": (1, 2), "BatchNormalization": (1, 2, 3, 4)}
"""Positions of an operator's weights among its inputs."""


def known_step(node: Node, roles: Mapping[str, str]) -> Step:
    """Return a step that runs a node with the interpreter, on its own tensors, named by path and role."""

    def run(inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        return interpreter.step(node, list(inputs), {where: tensors[name] for where, name in roles.items()})

    return run


def operator_step(node: NodeProto, position: int, values: Values, reads: Sequence[str]) -> Step:
    """Return a step that computes a result of an operator that is opaque to the graph, in the precision of its inputs.

    Its inputs are values of the network (``reads``), weights, or known values.
    """
    known, opset = {name: values.arrays[name] for name in node.input if name in values.arrays}, values.opset

    def run(inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        dtype = next((tensor.dtype for tensor in inputs if tensor.is_floating_point()), torch.float32)
        given = {**tensors, **dict(zip(reads, inputs, strict=True))}
        arrays: list[Array | None] = []
        for name in node.input:
            if name in given:
                arrays.append(given[name].detach().numpy())
            else:
                arrays.append(_precise(known[name], dtype) if name else None)
        result = torch.from_numpy(np.array(compute(node, arrays, opset)[position]))
        return result.to(dtype) if result.is_floating_point() else result

    return run


def _precise(array: Array, dtype: torch.dtype) -> Array:
    widen = array.dtype == np.float32 and dtype is torch.float64
    return array.astype(np.float64) if widen else array


def inputs_of(graph: GraphProto) -> list[ValueInfoProto]:
    """Return the inputs that a caller must pass."""
    initial = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in initial]


def constants_of(model: ModelProto) -> Values:
    """Return the values that are known at every size, computed once.

    Raises:
        CaptureError: If a constant cannot be computed.
    """
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    values = Values(opset_of(model), arrays)
    for node in model.graph.node:
        if values.known(node):
            values.evaluate(node)
    return values


def weights_of(graph: GraphProto, constants: Values) -> list[str]:
    """Return the names of the constants that are weights of convolutions and normalisations, in order."""
    names = [
        node.input[position]
        for node in graph.node
        for position in _OWN.get(node.op_type, ())
        if position < len(node.input)
    ]
    arrays = constants.arrays
    return [name for name in dict.fromkeys(names) if name in arrays and arrays[name].dtype == np.float32]


class GraphReader:
    """Reads a graph at the shapes of its inputs, in the order of its nodes."""

    def __init__(self, graph: GraphProto, constants: Values, shapes: Sequence[tuple[int, ...]]) -> None:
        self.graph = graph
        self.values = Values(constants.opset)
        self.values.arrays |= constants.arrays
        self.values.types |= constants.types
        self.sizes = shapes
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.parameters: dict[str, str] = {}
        self.steps: dict[str, Step] = {}
        self.paths: dict[str, str] = {}

    def read(self) -> Capture:
        """Read the graph.

        Raises:
            CaptureError: If an operator cannot be applied to its inputs.
        """
        for value, shape in zip(inputs_of(self.graph), self.sizes, strict=True):
            self.values.declare(value.name, shape)
            op = Input(channels=shape[1] if len(shape) > 1 else 1)
            self._add(value.name, self._unique("input"), op, ())
        for number, node in enumerate(self.graph.node):
            if all(value in self.values.arrays for value in node.output if value):
                continue
            if self.values.known(node):
                self.values.evaluate(node)
            else:
                self.values.infer(node)
                self._check_shapes(node)
                self._read_node(node, short(node.name) or f"{node.op_type}_{number}")
                self.values.makers |= dict.fromkeys(node.output, node)
        self._add_outputs()
        network = Network(nodes=tuple(self.nodes))
        return Capture(network=network, shapes=self.shapes, parameters=self.parameters, steps=self.steps, constants={})

    def _check_shapes(self, node: NodeProto) -> None:
        for value in node.output:
            shape = self.values.shape(value) or ()
            check_shape(label(node), shape)
            if len(shape) == MAP_RANK and not all(shape):
                raise CaptureError(f"{label(node)}: its result is empty, {'x'.join(map(str, shape))}")

    def _read_node(self, node: NodeProto, name: str) -> None:
        try:
            translation = translate(node, self.values)
        except Exception as error:
            raise CaptureError(f"{label(node)}: invalid attributes: {one_line(error)}") from error
        if translation and translation.op is not None:
            self._add_known(node, self._unique(name), translation.op, translation)
        elif translation:
            self.paths[node.output[0]] = self.paths[translation.inputs[0]]
        for position, value in enumerate(node.output):
            if value and (position or not translation):
                self._add_opaque(node, self._unique(f"{name}[{position}]" if position else name), position)

    def _add_known(self, node: NodeProto, path: str, op: Op, translation: Translation) -> None:
        roles = {f"{path}.{role}": tensor for role, tensor in translation.roles}
        self.parameters |= roles
        added = self._add(node.output[0], path, op, [self.paths[value] for value in translation.inputs], node.op_type)
        self.steps[path] = known_step(added, roles)

    def _add_opaque(self, node: NodeProto, path: str, position: int) -> None:
        reads = [value for value in dict.fromkeys(node.input) if value in self.paths]
        inputs = [self.paths[value] for value in reads]
        self._add(node.output[position], path, opaque(node, self.values), inputs, node.op_type)
        self.steps[path] = operator_step(node, position, self.values, reads)

    def _add(self, value: str, path: str, op: Op, inputs: Sequence[str], kind: str = "") -> Node:
        node = Node(path=path, op=op, inputs=tuple(inputs), source=Source(work="ONNX", place=kind) if kind else None)
        self.nodes.append(node)
        self.shapes[path] = self.values.shape(value) or ()
        self.paths[value] = path
        return node

    def _add_outputs(self) -> None:
        for value in self.graph.output:
            if value.name not in self.paths:
                raise CaptureError(f"the output {short(value.name)!r} does not depend on any input")
            name = f"[{short(value.name)!r}]" if len(self.graph.output) > 1 else ""
            path, producer = self._unique(f"output{name}"), self.paths[value.name]
            self.nodes.append(Node(path=path, op=Output(name=name), inputs=(producer,)))
            self.shapes[path] = self.shapes[producer]

    def _unique(self, path: str) -> str:
        unique, number = path, 1
        while unique in self.shapes:
            number += 1
            unique = f"{path}#{number}"
        return unique
