"""Loads ONNX files: parses them, and has onnxruntime run them in a candidate's process."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor

from deeplab_spec.capture.candidate.connection import Connection, LocalConnection
from deeplab_spec.capture.candidate.module import Remote
from deeplab_spec.capture.capture import CallSettings, Candidate, Capture, Returned, Shape
from deeplab_spec.capture.onnx.graph import GraphReader, constants_of, inputs_of, weights_of
from deeplab_spec.capture.onnx.model import load_model, short
from deeplab_spec.capture.onnx.values import Values
from deeplab_spec.child_process import Document
from deeplab_spec.errors import CaptureError, ChildError, GraphError, TargetError, one_line


def read_onnx(path: Path, name: str, connection: Connection | None = None) -> "OnnxFile":
    """Read an ONNX file and the weights beside it; it is parsed and nothing in it is executed.

    Without a connection, it runs in this process.

    Raises:
        TargetError: If it is not a well-formed ONNX file, or has unsupported content; the reason is one line.
    """
    model = load_model(path, name)
    try:
        tensors, constants = _take_weights(model)
        return OnnxFile(name, model, tensors, constants, connection or LocalConnection())
    except CaptureError as error:
        raise TargetError(name, str(error)) from error


class OnnxFile(Candidate):
    """A network that is loaded from an ONNX file.

    Its weights, which the model does not hold, are constant inputs of its convolutions and normalisations. In float32
    onnxruntime runs the file in the candidate's process, on the CPU; in another precision the interpreter executes the
    graph.
    """

    kind = "ONNX file"
    float32_only = True
    inference_only = "an ONNX file is for inference only"

    def __init__(
        self, name: str, model: ModelProto, tensors: Mapping[str, Tensor], constants: Values, connection: Connection
    ) -> None:
        super().__init__(name, _image_shapes(model), tensors)
        self.model = model
        self.constants = constants
        self.remote = Remote(name, connection, self._request)
        self._captures: dict[tuple[Shape, ...], Capture] = {}

    def read(self, inputs: Sequence[Tensor]) -> Capture:
        """Read the graph at the size of inputs, once for each."""
        sizes = tuple(tuple(tensor.shape) for tensor in inputs)
        if sizes not in self._captures:
            self.check_inputs(inputs)
            try:
                self._captures[sizes] = GraphReader(self.model.graph, self.constants, sizes).read()
            except GraphError as error:
                raise CaptureError(f"the graph cannot be read: {one_line(error)}") from error
        return self._captures[sizes]

    def call(self, inputs: Sequence[Tensor], settings: CallSettings = CallSettings()) -> Returned:  # noqa: B008 - frozen
        """Run the file with its current weights; an error is in the answer."""
        single = all(tensor.dtype is torch.float32 for tensor in (*inputs, *self.tensors.values()))
        try:
            self.check_inputs(inputs)
            if not single:
                return self._execute(inputs)
            if self.remote.stale(self.tensors):
                self.remote.rebuild()
                self.remote.loaded(self.tensors)
        except (CaptureError, TargetError, ChildError) as error:
            return Returned(error=str(error))
        except (RuntimeError, IndexError, KeyError, ValueError) as error:
            return Returned(error=one_line(error))
        return self.remote.call(inputs, settings)

    def _request(self) -> Document:
        content = bytearray(_with_weights(self.model, self.tensors).SerializeToString())
        packed = self.remote.connection.pack({"model": torch.frombuffer(content, dtype=torch.uint8)})
        return {"do": "build_session", "model": packed, "threads": torch.get_num_threads()}

    def check_inputs(self, inputs: Sequence[Tensor]) -> None:
        """Reject inputs of another shape than the file states, and empty ones."""
        super().check_inputs(inputs)
        if any(not tensor.numel() for tensor in inputs):
            raise CaptureError(f"the {self.kind} takes no empty input")

    def give_biases(self, weights: Collection[str]) -> bool:
        """Add a bias of zeros to convolutions without one."""
        dtype = next(iter(self.tensors.values())).dtype
        added = {name: bias.to(dtype) for name, bias in _add_biases(self.model, self.constants, weights).items()}
        self.tensors |= added
        self._captures.clear()
        return bool(added)

    def _execute(self, inputs: Sequence[Tensor]) -> Returned:
        """Execute the graph with the interpreter."""
        captured = self.read(inputs)
        network = captured.network
        named = {node.path: tensor for node, tensor in zip(network.inputs, inputs, strict=True)}
        values = captured.run(named, self.tensors, keep=())
        names = [value.name for value in self.model.graph.output]
        found = [values[node.path] for node in network.outputs]
        if len(found) == 1:
            return Returned(kind="Tensor", tensors={"": found[0]})
        return Returned(kind="dict", tensors={f"[{name!r}]": value for name, value in zip(names, found, strict=True)})


def _take_weights(model: ModelProto) -> tuple[dict[str, Tensor], Values]:
    """Remove the weights from a model, in place; return them by name, and the values that are known at every size.

    A weight that a constant node computes becomes a separate weight: an exporter that writes equal values
    once does not tie them together.
    """
    graph = model.graph
    for node in graph.node:
        del node.metadata_props[:]  # an exporter's traces, longer than the graph
        node.ClearField("doc_string")
    constants = constants_of(model)
    tensors: dict[str, Tensor] = {}
    for name in weights_of(graph, constants):
        array = np.array(constants.arrays[name])
        constants.arrays[name] = array
        tensors[name] = torch.from_numpy(array)
    kept = [node for node in graph.node if not set(filter(None, node.output)) <= set(tensors)]
    del graph.node[:]
    graph.node.extend(kept)
    initial = {tensor.name: tensor for tensor in graph.initializer}
    for name, weight in tensors.items():
        entry = initial[name] if name in initial else graph.initializer.add(name=name)
        entry.CopyFrom(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=weight.shape))
    return tensors, constants


def _add_biases(model: ModelProto, constants: Values, weights: Collection[str]) -> dict[str, Tensor]:
    """Add a bias of zeros to convolutions without one, by the names of their kernels, in place; return the biases."""
    biases: dict[str, Tensor] = {}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights or any(node.input[2:]):
            continue
        name = f"{node.input[1]}.zeros.{len(biases)}"
        zeros = np.zeros(constants.arrays[node.input[1]].shape[0], dtype=np.float32)
        del node.input[2:]
        node.input.append(name)
        model.graph.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=zeros.shape)
        constants.set_array(name, zeros)
        biases[name] = torch.from_numpy(zeros)
    return biases


def _with_weights(model: ModelProto, tensors: Mapping[str, Tensor]) -> ModelProto:
    """Return a copy of a model with these weights."""
    filled = ModelProto()
    filled.CopyFrom(model)
    for entry in filled.graph.initializer:
        if entry.name in tensors:
            array = tensors[entry.name].detach().contiguous().numpy()
            entry.CopyFrom(numpy_helper.from_array(array, entry.name))
    return filled


def _image_shapes(model: ModelProto) -> list[Shape]:
    """Return the shape of every input that a caller must pass, a float32 tensor with a stated rank."""
    shapes: list[Shape] = []
    for value in inputs_of(model.graph):
        kind = value.type.tensor_type
        if kind.elem_type != TensorProto.FLOAT or not kind.HasField("shape"):
            raise CaptureError(f"the input {short(value.name)!r} must be a float32 tensor with a shape")
        sides = (side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim)
        shapes.append(tuple(side if side is None or side > 0 else None for side in sides))
    if not shapes or not model.graph.output:
        raise CaptureError("the graph has no input or no output")
    return shapes
