"""A network exported to ONNX and run by onnxruntime, for comparison."""

import importlib.util
import logging
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.errors import MissingExtraError
from deeplab_spec.measure.folding import folded

NAME: Final = "onnxruntime"
DOES: Final = "folded, exported to ONNX and run by onnxruntime"
SECONDS: Final = 40
"""About how long it takes to prepare a full-size network."""

_NEEDED: Final = ("onnx", "onnxruntime", "onnxscript")


def require_onnx(what: str) -> None:
    """Refuse to go on without the packages.

    Raises:
        MissingExtraError: If one is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        raise MissingExtraError(what, "onnx")


class OnnxRuntime:
    """A network in onnxruntime's hands, on the CPU and with as many threads as torch has.

    Args:
        module: The network; it is not changed.
        example: An input; the result takes this size only.

    Raises:
        MissingExtraError: If the packages are not installed.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        require_onnx(NAME)
        onnxruntime = import_module(NAME)  # it has no types
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "network.onnx"
            torch.onnx.export(folded(module, example), (example,), file, dynamo=True, verbose=False)
            self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Run the network."""
        return [torch.from_numpy(value) for value in self.session.run(None, {self.input: x.numpy()})]


def missing(device: str) -> str:
    """Say why it cannot run on a device here; empty if it can."""
    if device != "cpu":
        return "it is compared on the CPU only"
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        return "it needs the extra 'onnx'"
    return ""
