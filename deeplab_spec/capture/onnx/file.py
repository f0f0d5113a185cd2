"""Loads ONNX files: parses them, and runs them with onnxruntime."""

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor

from deeplab_spec.capture.capture import Capture, FileModule, Shape
from deeplab_spec.capture.onnx.graph import GraphReader, constants_of, inputs_of, weights_of
from deeplab_spec.capture.onnx.model import load_model, short
from deeplab_spec.capture.onnx.values import Values
from deeplab_spec.errors import CaptureError, GraphError, TargetError, one_line


def read_onnx(path: Path, name: str) -> "OnnxFile":
    """Read an ONNX file; it is parsed and nothing in it is executed.

    Args:
        path: The file; weights may lie beside it.
        name: The target as the user named it.

    Raises:
        TargetError: If it is not a well-formed ONNX file, or has unsupported content; the reason is one line.
    """
    model = load_model(path, name)
    try:
        tensors, constants = _take_weights(model)
        return OnnxFile(name, model, tensors, constants)
    except CaptureError as error:
        raise TargetError(name, str(error)) from error


class OnnxFile(FileModule):
    """A network that is loaded from an ONNX file.

    Its weights are the constant inputs of its convolutions and normalisations. In float32 onnxruntime
    runs the file, on the CPU; in another precision the interpreter executes the graph.

    Args:
        name: The target as the user named it.
        model: The graph, without the values of its weights.
        tensors: The weights by name.
        constants: Values of the graph that are known at every size.
    """

    kind = "ONNX file"
    float32_only = True

    def __init__(self, name: str, model: ModelProto, tensors: Mapping[str, Tensor], constants: Values) -> None:
        super().__init__(name, _image_shapes(model), tensors)
        self.model = model
        self.constants = constants
        self._captures: dict[tuple[Shape, ...], Capture] = {}
        self._session: Any = None
        self._loaded: list[tuple[Tensor, int]] = []

    def read(self, inputs: Sequence[Tensor]) -> Capture:
        """Read the graph at the size of inputs.

        Raises:
            CaptureError: If the file does not accept this size, or its graph cannot be read.
        """
        sizes = tuple(tuple(tensor.shape) for tensor in inputs)
        if sizes not in self._captures:
            self.check_inputs(inputs)
            try:
                self._captures[sizes] = GraphReader(self.model.graph, self.constants, sizes).read()
            except GraphError as error:
                raise CaptureError(f"the graph cannot be read: {one_line(error)}") from error
        return self._captures[sizes]

    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - a tensor, or several by name
        """Run the file with its current weights.

        Returns:
            The output, or a dictionary of the outputs by name if there are several.

        Raises:
            CaptureError: If the file does not accept this size, or cannot be run.
        """
        self.check_inputs(inputs)
        single = all(tensor.dtype is torch.float32 for tensor in (*inputs, *self.tensors.values()))
        values = self._run(inputs) if single else self._execute(inputs)
        names = [value.name for value in self.model.graph.output]
        return values[0] if len(values) == 1 else dict(zip(names, values, strict=True))

    def check_inputs(self, inputs: Sequence[Tensor]) -> None:
        """Reject inputs of another shape than the file states, and empty ones.

        Raises:
            CaptureError: If an input does not fit.
        """
        super().check_inputs(inputs)
        if any(not tensor.numel() for tensor in inputs):
            raise CaptureError(f"the {self.kind} takes no empty input")

    def give_biases(self, weights: Collection[str]) -> bool:
        """Add a bias of zeros to convolutions without one."""
        dtype = next(iter(self.tensors.values())).dtype
        added = {name: bias.to(dtype) for name, bias in _add_biases(self.model, self.constants, weights).items()}
        self.tensors |= added
        self._captures.clear()
        self._session, self._loaded = None, []
        return bool(added)

    def _execute(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Execute the graph with the interpreter."""
        captured = self.read(inputs)
        network = captured.network
        values = captured.run(
            {node.path: tensor for node, tensor in zip(network.inputs, inputs, strict=True)}, self.tensors, keep=()
        )
        return [values[node.path] for node in network.outputs]

    def _run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the file with onnxruntime; a session is reused until a weight changes."""
        loaded = [(tensor, _version(tensor)) for tensor in self.tensors.values()]
        stale = len(loaded) != len(self._loaded) or any(
            now[0] is not then[0] or now[1] != then[1] for now, then in zip(loaded, self._loaded, strict=True)
        )
        try:
            if self._session is None or stale:
                self._session, self._loaded = None, []
                self._session, self._loaded = self._start(), loaded
            names = [value.name for value in self._session.get_inputs()]
            feeds = {name: tensor.detach().numpy() for name, tensor in zip(names, inputs, strict=True)}
            return [torch.from_numpy(value) for value in self._session.run(None, feeds)]
        except Exception as error:
            raise CaptureError(f"onnxruntime refused the file: {one_line(error)}") from error

    def _start(self) -> Any:  # noqa: ANN401 - the library has no types
        onnxruntime = import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        model = _with_weights(self.model, self.tensors).SerializeToString()
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - the framework's signature
        self._session, self._loaded = None, []
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_session": None, "_loaded": [], "_captures": {}}


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001 - counts in-place changes


def _take_weights(model: ModelProto) -> tuple[dict[str, Tensor], Values]:
    """Remove the weights from a model, in place.

    A weight that a constant node computes becomes a separate weight: an exporter that writes equal values
    once does not tie them together.

    Returns:
        The weights by name, and the values of the graph that are known at every size.

    Raises:
        CaptureError: If a constant cannot be computed.
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
    """Add a bias of zeros to convolutions without one, in place.

    Args:
        model: The model, without the values of its weights.
        constants: Values of the graph that are known at every size.
        weights: Names of the convolutions' kernels.

    Returns:
        The biases by name.
    """
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
    """Return the shape of every input that a caller must pass.

    Raises:
        CaptureError: If one is not a float32 tensor with a stated rank.
    """
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
