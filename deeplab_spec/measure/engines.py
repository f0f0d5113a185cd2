"""Networks that another engine runs: exported once for each size of input, and called like the original."""

import logging
import sys
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deeplab_spec.errors import SpecError

Session = Callable[[Tensor], list[Tensor]]
"""Runs an exported network: takes an input of the size that it was exported for, returns its outputs in order."""

_RANK: Final = 4


class Engine(nn.Module, ABC):
    """A network that another engine runs on the CPU, in float32, with as many threads as torch has.

    It takes the same inputs as the original. For every new size of input it exports the network again.

    Args:
        module: The network, in evaluation mode.
        example: An input, (n, channels, h, w); the network is exported for its size.

    Raises:
        SpecError: If an input is not a batch of float32 images on the CPU.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.module = module
        with torch.no_grad():
            leaves, self.structure = pytree.tree_flatten(module(example))
        self.leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self.sessions: dict[torch.Size, Session] = {}
        self(example)

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        if x.dtype is not torch.float32 or x.device.type != "cpu" or x.ndim != _RANK:
            actual = f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)} on {x.device.type}"
            raise SpecError(type(self).__name__, "takes a batch of float32 images on the CPU", actual)
        if x.shape not in self.sessions:
            self.sessions[x.shape] = self.session(x)
        results = iter(self.sessions[x.shape](x.detach().contiguous()))
        return pytree.tree_unflatten([next(results) if leaf is None else leaf for leaf in self.leaves], self.structure)

    def session(self, example: Tensor) -> Session:
        """Export the network to ONNX for the size of an example, and load it."""
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "network.onnx"
            with _quiet("torch.onnx"):
                torch.onnx.export(self.module, (example,), file, dynamo=True, verbose=False)
            return self.load(file)

    @abstractmethod
    def load(self, file: Path) -> Session:
        """Load an ONNX file, which is deleted afterwards."""


class OnnxRuntime(Engine):
    """A network that onnxruntime runs."""

    def load(self, file: Path) -> Session:
        """Load an ONNX file."""
        onnxruntime = import_module("onnxruntime")  # it has no types
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        loaded = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        name = loaded.get_inputs()[0].name

        def run(x: Tensor) -> list[Tensor]:
            return [torch.from_numpy(value) for value in loaded.run(None, {name: x.numpy()})]

        return run


class OpenVino(Engine):
    """A network that OpenVINO runs, in float32 also where the processor supports bfloat16."""

    def load(self, file: Path) -> Session:
        """Load and compile an ONNX file."""
        openvino = _openvino()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        request = openvino.Core().compile_model(file, "CPU", settings).create_infer_request()
        outputs = [(tuple(output.shape), output.element_type.to_dtype()) for output in request.model_outputs]

        def run(x: Tensor) -> list[Tensor]:
            results = [np.empty(shape, dtype) for shape, dtype in outputs]
            for number, result in enumerate(results):  # written in place: a call never overwrites an earlier result
                request.set_output_tensor(number, openvino.Tensor(result, shared_memory=True))
            request.set_input_tensor(openvino.Tensor(x.numpy(), shared_memory=True))
            request.infer()
            return [torch.from_numpy(result) for result in results]

        return run


def _openvino() -> Any:  # noqa: ANN401 - it has no types
    """Import OpenVINO without its telemetry, which reports every import to Intel over the network."""
    if "openvino" in sys.modules:
        return import_module("openvino")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # so importing it fails
    try:
        return import_module("openvino")
    finally:
        del sys.modules["openvino_telemetry"]


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """Silence an exporter's own messages and warnings."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
