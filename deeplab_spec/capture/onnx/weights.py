"""Moves the weights out of an ONNX model, and other weights into it."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor

from deeplab_spec.capture.capture import Shape
from deeplab_spec.capture.onnx.graph import constants_of, inputs_of, weights_of
from deeplab_spec.capture.onnx.model import printable
from deeplab_spec.capture.onnx.values import Values
from deeplab_spec.errors import CaptureError


def take_weights(model: ModelProto) -> tuple[dict[str, Tensor], Values]:
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


def add_biases(model: ModelProto, constants: Values, weights: Collection[str]) -> dict[str, Tensor]:
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


def with_weights(model: ModelProto, tensors: Mapping[str, Tensor]) -> ModelProto:
    """Return a copy of a model with these weights."""
    filled = ModelProto()
    filled.CopyFrom(model)
    for entry in filled.graph.initializer:
        if entry.name in tensors:
            array = tensors[entry.name].detach().contiguous().numpy()
            entry.CopyFrom(numpy_helper.from_array(array, entry.name))
    return filled


def image_shapes(model: ModelProto) -> list[Shape]:
    """Return the shape of every input that a caller must pass.

    Raises:
        CaptureError: If one is not a float32 tensor with a stated rank.
    """
    shapes: list[Shape] = []
    for value in inputs_of(model.graph):
        kind = value.type.tensor_type
        if kind.elem_type != TensorProto.FLOAT or not kind.HasField("shape"):
            raise CaptureError(f"the input {printable(value.name)!r} must be a float32 tensor with a shape")
        sides = (side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim)
        shapes.append(tuple(side if side is None or side > 0 else None for side in sides))
    if not shapes or not model.graph.output:
        raise CaptureError("the graph has no input or no output")
    return shapes
