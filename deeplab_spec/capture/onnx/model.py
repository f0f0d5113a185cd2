"""Loads an ONNX file, validating every field.

Sizes are bounded before anything is read. External weights must be in the file's folder. Only one graph
of standard operators, in an order in which they can run, is accepted.
"""

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, external_data_helper

from deeplab_spec.errors import TargetError, one_line, printable

_MOST_BYTES: Final = 2**31 - 1
"""The limit of the format; also the limit of external weights."""

_MOST_NODES: Final = 100_000

_OPSETS: Final = range(7, onnx.defs.onnx_opset_version() + 1)
"""Supported versions of the standard's operators; in earlier ones, a broadcast is an attribute."""

_DOMAINS: Final = ("", "ai.onnx")

_FIELDS: Final[dict[int, str]] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.UINT32: "uint64_data",
}
"""The field of values that are not stored as bytes, by type; ``int32_data`` for every other type."""


class RefusedFileError(Exception):
    """A file is refused; the reason is one line."""


def load_model(path: Path, name: str) -> ModelProto:
    """Load a file and its external weights: a well-formed model of standard operators, of one opset.

    Raises:
        TargetError: If it is not such a file; the reason is one line.
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
        raise TargetError(name, f"is not a well-formed ONNX file: {one_line(error)}") from error
    return model


def opset_of(model: ModelProto) -> int:
    """Return the version of the standard's operators that a model uses."""
    return next(int(opset.version) for opset in model.opset_import if opset.domain in _DOMAINS)


def short(text: str) -> str:
    """Return untrusted text as a part of one line.

    >>> short("conv" + chr(10) + "1")
    'conv?1'
    """
    shown = printable(text)
    return shown if len(shown) <= 300 else f"{shown[:297]}..."  # noqa: PLR2004 - a line that a terminal can hold


def _parse(path: Path) -> ModelProto:
    if not path.is_file():
        raise RefusedFileError("is a folder or a device" if path.exists() else "there is no such file")
    size = path.stat().st_size
    if not 0 < size <= _MOST_BYTES:
        raise RefusedFileError(f"must have 1 to {_MOST_BYTES} bytes to be an ONNX file, but has {size}")
    with path.open("rb") as file:
        content = file.read(size)
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:
        raise RefusedFileError("is not an ONNX file, or only a part of one") from error


def _require_plain(model: ModelProto) -> None:
    """Refuse anything but one graph of standard operators."""
    graph = model.graph
    if len(graph.node) > _MOST_NODES:
        raise RefusedFileError(f"must have at most {_MOST_NODES} nodes, but has {len(graph.node)}")
    versions = {int(opset.version) for opset in model.opset_import if opset.domain in _DOMAINS}
    if len(versions) != 1 or not versions <= set(_OPSETS):
        stated = ", ".join(map(str, sorted(versions))) or "none"
        raise RefusedFileError(f"must use one opset from {_OPSETS[0]} to {_OPSETS[-1]}, but states {stated}")
    if model.functions:
        raise RefusedFileError(f"holds a function, {short(model.functions[0].name)!r}, which is not read")
    if graph.sparse_initializer or model.training_info:
        raise RefusedFileError("holds sparse tensors or a training graph, which are not read")
    for node in graph.node:
        if node.domain not in _DOMAINS:
            operator = short(f"{node.domain}.{node.op_type}")
            raise RefusedFileError(f"holds a non-standard operator: {operator}")
        if any(_nested(attribute) for attribute in node.attribute):
            raise RefusedFileError(f"holds a nested graph, in {label(node)}, which is not read")


def _nested(attribute: AttributeProto) -> bool:
    return bool(attribute.HasField("g") or attribute.graphs or attribute.ref_attr_name)


def label(node: NodeProto) -> str:
    """Name a node for a message."""
    return short(f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} without a name")


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
    """Check every tensor's fields, then load the external ones."""
    external: list[TensorProto] = []
    total = 0
    for tensor in _tensors(model.graph):
        where = f"the tensor {short(tensor.name)!r}"
        total += _stated_bytes(tensor, where)
        if total > _MOST_BYTES:
            raise RefusedFileError(f"must hold weights of at most {_MOST_BYTES} bytes, but {where} exceeds that")
        if tensor.data_location == TensorProto.EXTERNAL:
            _check_external(tensor, where, folder)
            external.append(tensor)
        else:
            _check_stored(tensor, where)
    for tensor in external:
        external_data_helper.load_external_data_for_tensor(tensor, str(folder))


def _stated_bytes(tensor: TensorProto, where: str) -> int:
    if any(side < 0 for side in tensor.dims):
        raise RefusedFileError(f"{where} must have no negative side, but has {tuple(tensor.dims)}")
    if tensor.data_type == TensorProto.STRING or tensor.HasField("segment"):
        raise RefusedFileError(f"{where} must hold numbers in one segment, but holds text or several segments")
    try:
        size = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError as error:
        raise RefusedFileError(f"{where} must have a type of ONNX, but states {tensor.data_type}") from error
    return _count(tensor) * size


def _check_stored(tensor: TensorProto, where: str) -> None:
    """Refuse a tensor whose number of values does not match its sides."""
    if tensor.HasField("raw_data"):
        actual, stated, unit = len(tensor.raw_data), _raw_bytes(tensor), "bytes"
    else:
        actual = len(getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data")))
        stated, unit = _count(tensor), "values"
        if _bits(tensor) < 8 or tensor.data_type in {TensorProto.COMPLEX64, TensorProto.COMPLEX128}:  # noqa: PLR2004 - a byte
            return  # packed or paired values: the checker counts them
    if actual != stated:
        raise RefusedFileError(f"{where} of sides {tuple(tensor.dims)} must hold {stated} {unit}, but holds {actual}")


def _bits(tensor: TensorProto) -> int:
    name = TensorProto.DataType.Name(tensor.data_type)
    narrow = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    return narrow.get(name, 8 * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize))


def _raw_bytes(tensor: TensorProto) -> int:
    return -(-_count(tensor) * _bits(tensor) // 8)


def _count(tensor: TensorProto) -> int:
    return math.prod(int(side) for side in tensor.dims)


def _check_external(tensor: TensorProto, where: str, folder: Path) -> None:
    """Refuse external weights outside the file's folder, or of another length than stated."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = (PurePosixPath(location), PureWindowsPath(location))
    shown = short(location)
    if not location or any(part.is_absolute() or part.drive or ".." in part.parts for part in parts):
        raise RefusedFileError(f"{where} must be in the file's folder, but its stated location is {shown!r}")
    file = folder / location
    if not file.exists():
        raise RefusedFileError(f"{where} is in {shown!r}, which is missing in the file's folder")
    inside = file.resolve().is_relative_to(folder.resolve())
    if not inside or file.is_symlink() or not file.is_file():
        raise RefusedFileError(f"{where} must be in a regular file in the file's folder, unlike {shown!r}")
    available, stated = file.stat().st_size, _raw_bytes(tensor)
    offset, length = _number(entries, "offset", 0, where), _number(entries, "length", stated, where)
    if length != stated or offset + length > available:
        span = f"bytes {offset} to {offset + length} of {available} in {shown!r}"
        raise RefusedFileError(f"{where} of sides {tuple(tensor.dims)} must hold {stated} bytes, but states {span}")
    if "length" not in entries:
        tensor.external_data.add(key="length", value=str(length))  # without it, onnx reads to the end of the file


def _number(entries: dict[str, str], key: str, default: int, where: str) -> int:
    text = entries.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):  # noqa: PLR2004 - what 64 bits can hold
        raise RefusedFileError(f"{where} must have a whole {key} of at least 0, but states {short(text)!r}")
    return int(text)
