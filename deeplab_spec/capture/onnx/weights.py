"""Takes the weights out of an ONNX model, and puts others in their place."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor

from deeplab_spec.capture.file_module import Shape
from deeplab_spec.capture.onnx.graph import constants_of, inputs_of, weights_of
from deeplab_spec.capture.onnx.model import printable
from deeplab_spec.capture.onnx.values import Values
from deeplab_spec.errors import CaptureError


def take_weights(model: ModelProto) -> tuple[dict[str, Tensor], Values]:
    """Take the weights out of a model, in place.

    A weight that a constant node computes becomes a weight of its own, so that exporters that write
    equal values once, and name them again, tie nothing together.

    Returns:
        The weights by name, and what is known of the graph at every size.

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
    held = {tensor.name: tensor for tensor in graph.initializer}
    for name, weight in tensors.items():
        place = held[name] if name in held else graph.initializer.add(name=name)
        place.CopyFrom(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=weight.shape))
    return tensors, constants


def add_biases(model: ModelProto, constants: Values, weights: Collection[str]) -> dict[str, Tensor]:
    """Give convolutions without a bias one of zeros, in place.

    Args:
        model: The model, without the values of its weights.
        constants: What is known of the graph at every size.
        weights: Names of the convolutions' kernels.

    Returns:
        The biases by name.
    """
    added: dict[str, Tensor] = {}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights or any(node.input[2:]):
            continue
        name = f"{node.input[1]}.zeros.{len(added)}"
        zeros = np.zeros(constants.arrays[node.input[1]].shape[0], dtype=np.float32)
        del node.input[2:]
        node.input.append(name)
        model.graph.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=zeros.shape)
        constants.hold(name, zeros)
        added[name] = torch.from_numpy(zeros)
    return added


def with_weights(model: ModelProto, tensors: Mapping[str, Tensor]) -> ModelProto:
    """Return a copy of a model without the values of its weights, with other ones."""
    filled = ModelProto()
    filled.CopyFrom(model)
    for place in filled.graph.initializer:
        if place.name in tensors:
            array = tensors[place.name].detach().contiguous().numpy()
            place.CopyFrom(numpy_helper.from_array(array, place.name))
    return filled


def image_shapes(model: ModelProto) -> list[Shape]:
    """Return the shape of every input that a caller must give.

    Raises:
        CaptureError: If one is no tensor of float32 whose sides are stated.
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
