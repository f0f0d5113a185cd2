"""Loads an ONNX file as data: nothing in it is believed before it was looked at.

What is read is bounded before it is read, weights beside the file must lie in its folder, and a
graph that holds more than the standard's own operators, in an order in which they can run, is refused.
"""

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, external_data_helper

from deeplab_spec.errors import TargetError, one_line

_MOST_BYTES: Final = 2**31 - 1
"""What the format can hold; also the limit of the weights that lie beside the file."""

_MOST_NODES: Final = 100_000

_OPSETS: Final = range(7, onnx.defs.onnx_opset_version() + 1)
"""Versions of the standard's operators that are read; before, a broadcast was an attribute."""

_DOMAINS: Final = ("", "ai.onnx")

_FIELDS: Final[dict[int, str]] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.UINT32: "uint64_data",
}
"""Where the values of a type are that are not held as bytes; of every other type in ``int32_data``."""


class RefusedFileError(Exception):
    """A file that is not read, with the reason in one line."""


def load_model(path: Path, name: str) -> ModelProto:
    """Load a file and the weights beside it.

    Args:
        path: The file.
        name: What the user named.

    Returns:
        A well-formed model of standard operators, of one opset, its weights inside.

    Raises:
        TargetError: If it is no such file; the reason is one line.
    """
    try:
        model = _parse(path)
        _require_plain(model)
        _load_tensors(model, path.parent)
        onnx.checker.check_model(model)
    except RefusedFileError as error:
        raise TargetError(name, str(error)) from error
    except OSError as error:
        raise TargetError(name, f"cannot be read: {error.strerror or one_line(error)}") from error
    except Exception as error:  # the parser and the checker have no common class of errors
        raise TargetError(name, f"is no well-formed ONNX file: {printable(one_line(error))}") from error
    return model


def opset_of(model: ModelProto) -> int:
    """Return the version of the standard's operators that a model uses."""
    return next(int(opset.version) for opset in model.opset_import if opset.domain in _DOMAINS)


def printable(text: str) -> str:
    """Return foreign text without what a terminal would obey.

    >>> printable("conv" + chr(10) + "1")
    'conv?1'
    """
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= 300 else f"{shown[:297]}..."  # noqa: PLR2004 - a line that a terminal can hold


def _parse(path: Path) -> ModelProto:
    if not path.is_file():
        raise RefusedFileError("is a folder or a device" if path.exists() else "there is no such file")
    size = path.stat().st_size
    if not 0 < size <= _MOST_BYTES:
        raise RefusedFileError(f"must have 1 to {_MOST_BYTES} bytes to be an ONNX file, but has {size}")
    try:
        return onnx.load_model(path, load_external_data=False)
    except OSError:
        raise
    except Exception as error:
        raise RefusedFileError("is no ONNX file, or only a part of one") from error


def _require_plain(model: ModelProto) -> None:
    """Refuse what is more than one graph of the standard's operators."""
    graph = model.graph
    if len(graph.node) > _MOST_NODES:
        raise RefusedFileError(f"must have at most {_MOST_NODES} nodes, but has {len(graph.node)}")
    versions = {int(opset.version) for opset in model.opset_import if opset.domain in _DOMAINS}
    if len(versions) != 1 or not versions <= set(_OPSETS):
        found = ", ".join(map(str, sorted(versions))) or "none"
        raise RefusedFileError(f"must use one opset from {_OPSETS[0]} to {_OPSETS[-1]}, but states {found}")
    if model.functions:
        raise RefusedFileError(f"holds a function, {printable(model.functions[0].name)!r}, which is not read")
    if graph.sparse_initializer or model.training_info:
        raise RefusedFileError("holds sparse tensors or a training graph, which are not read")
    for node in graph.node:
        if node.domain not in _DOMAINS:
            operator = printable(f"{node.domain}.{node.op_type}")
            raise RefusedFileError(f"holds an operator that is not of the standard: {operator}")
        if any(_nested(attribute) for attribute in node.attribute):
            raise RefusedFileError(f"holds a nested graph, in {label(node)}, which is not read")


def _nested(attribute: AttributeProto) -> bool:
    return bool(attribute.HasField("g") or attribute.graphs or attribute.ref_attr_name)


def label(node: NodeProto) -> str:
    """Name a node for a message."""
    return printable(f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} without a name")


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise RefusedFileError(f"holds a sparse tensor, in {label(node)}, which is not read")
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _load_tensors(model: ModelProto, folder: Path) -> None:
    """Check what every tensor states, then load those that lie beside the file."""
    beside: list[TensorProto] = []
    total = 0
    for tensor in _tensors(model.graph):
        where = f"the tensor {printable(tensor.name)!r}"
        total += _stated_bytes(tensor, where)
        if total > _MOST_BYTES:
            raise RefusedFileError(f"must hold weights of at most {_MOST_BYTES} bytes, but {where} exceeds that")
        if tensor.data_location == TensorProto.EXTERNAL:
            _require_inside(tensor, where, folder)
            beside.append(tensor)
        else:
            _require_filled(tensor, where)
    for tensor in beside:
        external_data_helper.load_external_data_for_tensor(tensor, str(folder))


def _stated_bytes(tensor: TensorProto, where: str) -> int:
    if any(side < 0 for side in tensor.dims):
        raise RefusedFileError(f"{where} must have no negative side, but has {tuple(tensor.dims)}")
    if tensor.data_type == TensorProto.STRING or tensor.HasField("segment"):
        raise RefusedFileError(f"{where} must hold numbers, whole, but holds text or a part of them")
    try:
        size = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError as error:
        raise RefusedFileError(f"{where} must be of a type that ONNX has, but states {tensor.data_type}") from error
    return _count(tensor) * size


def _require_filled(tensor: TensorProto, where: str) -> None:
    """Refuse a tensor whose values are not as many as its sides say."""
    if tensor.HasField("raw_data"):
        held, stated, unit = len(tensor.raw_data), _raw_bytes(tensor), "bytes"
    else:
        held = len(getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data")))
        stated, unit = _count(tensor), "values"
        if _bits(tensor) < 8 or tensor.data_type in {TensorProto.COMPLEX64, TensorProto.COMPLEX128}:  # noqa: PLR2004 - a byte
            return  # several to a value, or several values to one: the checker counts
    if held != stated:
        raise RefusedFileError(f"{where} of sides {tuple(tensor.dims)} must hold {stated} {unit}, but holds {held}")


def _bits(tensor: TensorProto) -> int:
    name = TensorProto.DataType.Name(tensor.data_type)
    narrow = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    return narrow.get(name, 8 * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize))


def _raw_bytes(tensor: TensorProto) -> int:
    return -(-_count(tensor) * _bits(tensor) // 8)


def _count(tensor: TensorProto) -> int:
    return math.prod(int(side) for side in tensor.dims)


def _require_inside(tensor: TensorProto, where: str, folder: Path) -> None:
    """Refuse weights that lie outside the file's folder, or that are not as long as stated."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = (PurePosixPath(location), PureWindowsPath(location))
    shown = printable(location)
    if not location or any(part.is_absolute() or part.drive or ".." in part.parts for part in parts):
        raise RefusedFileError(f"{where} must lie in the file's own folder, but is said to lie in {shown!r}")
    file = folder / location
    if not file.exists():
        raise RefusedFileError(f"{where} is said to lie in {shown!r}, which is missing beside the file")
    inside = file.resolve().is_relative_to(folder.resolve())
    if not inside or file.is_symlink() or not file.is_file():
        raise RefusedFileError(f"{where} must lie in a plain file in the file's own folder, unlike {shown!r}")
    held, stated = file.stat().st_size, _raw_bytes(tensor)
    offset, length = _number(entries, "offset", 0, where), _number(entries, "length", stated, where)
    if length != stated or offset + length > held:
        span = f"bytes {offset} to {offset + length} of {held} in {shown!r}"
        raise RefusedFileError(f"{where} of sides {tuple(tensor.dims)} must hold {stated} bytes, but states {span}")
    if "length" not in entries:
        tensor.external_data.add(key="length", value=str(length))  # else all that follows would be read


def _number(entries: dict[str, str], key: str, default: int, where: str) -> int:
    text = entries.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):  # noqa: PLR2004 - what 64 bits can hold
        raise RefusedFileError(f"{where} must have a whole {key} of at least 0, but states {printable(text)!r}")
    return int(text)
