"""ONNX files as implementations: read as data, run by onnxruntime."""

import importlib.util
import math
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import torch
from torch import Tensor

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.file_module import FileModule, Shape
from deeplab_spec.errors import CaptureError, GraphError, MissingExtraError, TargetError, one_line
from deeplab_spec.execute.interpreter import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto

    from deeplab_spec.capture.onnx.values import Values

_NEEDED: Final = ("onnx", "onnxruntime")


def read_onnx(path: Path, name: str) -> "OnnxFile":
    """Read an ONNX file; nothing in it is executed.

    Args:
        path: The file; weights may lie beside it.
        name: What the user named.

    Raises:
        MissingExtraError: If the packages that read and run it are not installed.
        TargetError: If it is no well-formed ONNX file, or holds what is not read; the reason is one line.
    """
    if any(importlib.util.find_spec(package) is None for package in _NEEDED):
        raise MissingExtraError("ONNX files", "onnx")
    from deeplab_spec.capture.onnx.model import load_model
    from deeplab_spec.capture.onnx.weights import take_weights

    model = load_model(path, name)
    try:
        tensors, constants = take_weights(model)
        return OnnxFile(name, model, tensors, constants)
    except CaptureError as error:
        raise TargetError(name, str(error)) from error


class OnnxFile(FileModule):
    """A network that came as an ONNX file.

    Its weights are the constants that its convolutions and normalisations read. In float32 it is run
    by onnxruntime, on the CPU; in another precision its graph is executed instead.

    Args:
        name: What the user named.
        model: The graph, without the values of its weights.
        tensors: The weights by name.
        constants: What is known of the graph at every size.
    """

    kind = "ONNX file"
    float32_only = True

    def __init__(self, name: str, model: "ModelProto", tensors: Mapping[str, Tensor], constants: "Values") -> None:
        from deeplab_spec.capture.onnx.weights import image_shapes

        super().__init__(name, image_shapes(model), tensors)
        self.model = model
        self.constants = constants
        self._captures: dict[tuple[Shape, ...], Capture] = {}
        self._session: Any = None
        self._loaded: list[tuple[Tensor, int]] = []

    def read(self, inputs: Sequence[Tensor]) -> Capture:
        """Read the graph at the size of inputs.

        Raises:
            CaptureError: If the file does not take this size, or its graph cannot be read.
        """
        from deeplab_spec.capture.onnx.graph import GraphReader

        sizes = tuple(tuple(tensor.shape) for tensor in inputs)
        if sizes not in self._captures:
            _require_fitting(self.shapes, sizes)
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
            CaptureError: If the file does not take this size, or cannot be run.
        """
        _require_fitting(self.shapes, [tuple(tensor.shape) for tensor in inputs])
        single = all(tensor.dtype is torch.float32 for tensor in (*inputs, *self.tensors.values()))
        values = self._run(inputs) if single else self._execute(inputs)
        names = [value.name for value in self.model.graph.output]
        return values[0] if len(values) == 1 else dict(zip(names, values, strict=True))

    def give_biases(self, weights: Collection[str]) -> bool:
        """Give convolutions without a bias one of zeros."""
        from deeplab_spec.capture.onnx.weights import add_biases

        dtype = next(iter(self.tensors.values())).dtype
        added = {name: bias.to(dtype) for name, bias in add_biases(self.model, self.constants, weights).items()}
        self.tensors |= added
        self._captures.clear()
        self._session, self._loaded = None, []
        return bool(added)

    def _execute(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the graph by the interpreter."""
        captured = self.read(inputs)
        network = captured.network
        weights = {where: self.tensors[name] for where, name in captured.parameters.items()}
        given = {node.path: tensor for node, tensor in zip(network.inputs, inputs, strict=True)}
        values = run(
            network,
            weights,
            given,
            keep=(),
            opaque=lambda node, reads: captured.step(node.path, reads, self.tensors),
        )
        return [values[node.path] for node in network.outputs]

    def _run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the file by onnxruntime."""
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
        from deeplab_spec.capture.onnx.weights import with_weights

        onnxruntime = import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        model = with_weights(self.model, self.tensors).SerializeToString()
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)

    def _apply(self, fn: "Callable[[Tensor], Tensor]", recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - the framework's signature
        self._session, self._loaded = None, []
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_session": None, "_loaded": [], "_captures": {}}


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001 - counts the changes in place


def _require_fitting(shapes: Sequence[Shape], sizes: Sequence[Sequence[int]]) -> None:
    """Refuse inputs of other shapes than the file states.

    Raises:
        CaptureError: If one does not fit.
    """
    if len(shapes) != len(sizes):
        raise CaptureError(f"the file takes {len(shapes)} inputs, but got {len(sizes)}")
    for shape, size in zip(shapes, sizes, strict=True):
        fits = len(shape) == len(size) and all(side in {None, given} for side, given in zip(shape, size, strict=True))
        if not fits or not math.prod(size):
            stated = ", ".join("any" if side is None else str(side) for side in shape)
            raise CaptureError(f"the file takes an input of shape ({stated}), but got {tuple(size)}")
