"""Modules that wrap another one and run it in some way: cast, compiled, recorded, or by another engine."""

import logging
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deeplab_spec.errors import SpecError
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.views.document import temporary_folder

_WARM_UP: Final = 3
"""Runs before a recording; libraries choose their algorithms in them."""

Session = Callable[[Tensor], list[Tensor]]
"""Runs an exported network: takes an input of the size that it was exported for, returns its outputs in order."""

_RANK: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Settings of the process that are on while a network runs.

    Attributes:
        tf32: Whether float32 products are computed in TF32; else in IEEE float32.
        cudnn_benchmark: Whether cuDNN times its algorithms for every new size and takes the fastest.
    """

    tf32: bool = False
    cudnn_benchmark: bool = False


@contextmanager
def switched(switches: Switches) -> Iterator[None]:
    """Set the switches, and restore them at the end."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = switches.cudnn_benchmark
    try:
        with float32_products(tf32=switches.tf32):
            yield
    finally:
        torch.backends.cudnn.benchmark = before


class ChannelsLast(nn.Module):
    """A network whose maps are stored with their channels last."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload that torch's stubs lack

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        return self.module(x.contiguous(memory_format=torch.channels_last))


class Autocast(nn.Module):
    """A network under automatic mixed precision."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.dtype = dtype

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        with torch.autocast(x.device.type, self.dtype, cache_enabled=False):
            return self.module(x)


class Cast(nn.Module):
    """A network whose weights and input are cast to another dtype; its outputs have the dtype of the input."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module.to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        result = self.module(x.to(self.dtype))
        return pytree.tree_map_only(Tensor, lambda value: value.to(x.dtype), result)


class Compiled(nn.Module):
    """A compiled network; it is compiled again for another size."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.compiled = torch.compile(module, dynamic=False)

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        return self.compiled(x)


class Frozen(Compiled):
    """A network compiled with its weights as constants.

    The switch is one of the process, so it is on only while a new size of input is compiled.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.seen: set[torch.Size] = set()

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        if x.shape in self.seen:
            return self.compiled(x)
        import torch._inductor.config as inductor

        with inductor.patch(freezing=True):
            result = self.compiled(x)
        self.seen.add(x.shape)
        return result


class Replayed(nn.Module):
    """A network recorded once as a CUDA graph, for one size of input."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.module = module
        self.images = example.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                module(self.images)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.graph):
            self.result = module(self.images)

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        if x.shape != self.images.shape:
            raise SpecError("cuda_graph", f"takes the recorded size {tuple(self.images.shape)}", tuple(x.shape))
        self.images.copy_(x)
        self.graph.replay()
        return pytree.tree_map(torch.clone, self.result)


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
        with temporary_folder() as directory:
            file = directory / "network.onnx"
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


class Running(nn.Module):
    """A network in evaluation: no gradients, and the switches set while it runs."""

    def __init__(self, module: nn.Module, switches: Switches) -> None:
        super().__init__()
        self.module = module
        self.switches = switches

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - as the module's
        """Run the network."""
        with torch.no_grad(), switched(self.switches):
            return self.module(x)
