"""ONNX files for tests: exported, hand-made, and edited."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from deeplab_spec.capture.onnx.file import OnnxFile, read_onnx

IMAGE = (1, 4, 6, 7)
"""Shape of the image that hand-made graphs read by default."""


class Called(nn.Module):
    """A network with the image as its only argument: the TorchScript exporter fills in every default."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Any:
        """Call the network."""
        return self.network(image)


def export(module: nn.Module, image: Tensor, path: Path, *, dynamo: bool, free: bool = False, **options: Any) -> Path:
    """Export a module in evaluation, with height, width and batch free or fixed.

    Args:
        module: The network.
        image: An example of what it reads.
        path: Where to.
        dynamo: Whether the current exporter makes the file, or the TorchScript one.
        free: Whether other sizes may be read.
        options: Other arguments of the exporter, e.g. its opset.
    """
    sides = {0: "n", 2: "h", 3: "w"}
    if free and dynamo:
        options["dynamic_shapes"] = {"image": {axis: torch.export.Dim(name, min=2) for axis, name in sides.items()}}
    elif free:
        options |= {"dynamic_axes": {"image": sides}, "input_names": ["image"]}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's warnings do not matter here
        torch.onnx.export(Called(module).eval(), (image,), path, dynamo=dynamo, verbose=False, **options)
    return path


def graph(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 21,
    shape: Sequence[int | str] = IMAGE,
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
) -> ModelProto:
    """Return a model of nodes from ``x`` to ``y``."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["a", "b", "c", "d"]) for name in outputs]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    made = helper.make_graph(list(nodes), "made", values, results, held)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def conv(name: str = "conv", reads: str = "x", gives: str = "y", **attributes: Any) -> NodeProto:
    """Return a convolution that reads the constant ``weight``."""
    return helper.make_node("Conv", [reads, "weight"], [gives], name=name, **attributes)


def weight(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return small whole numbers in float32."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def opened(model: ModelProto, folder: Path, name: str = "made.onnx") -> OnnxFile:
    """Write a model, and read it."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return read_onnx(path, name)


def edited(path: Path, edit: Callable[[ModelProto], object], name: str = "edited.onnx") -> Path:
    """Write a changed copy of a file beside it, its weights inside."""
    model = onnx.load_model(path)
    edit(model)
    changed = path.parent / name
    changed.write_bytes(model.SerializeToString())
    return changed
