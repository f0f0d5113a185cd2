"""Networks between processes: as JSON, with the shapes of their values, and a digest of their normal form."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, get_args, get_type_hints

from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.order import ordered
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import ActivationKind, Op, Output, PoolKind, ResizeMode, kind

_OPS: Final = {op.__name__: op for op in get_args(Op.__value__ if hasattr(Op, "__value__") else Op)}
_ENUMS: Final = (ActivationKind, PoolKind, ResizeMode)

Json = dict[str, Any]


def to_json(network: Network, shapes: Mapping[str, tuple[int, ...]]) -> Json:
    """Return a network and the shapes of its values as what JSON can hold."""
    nodes = [
        {"path": node.path, "op": kind(node.op), "attributes": _attributes(node.op), "inputs": list(node.inputs)}
        for node in network
    ]
    return {"nodes": nodes, "shapes": {path: list(shape) for path, shape in shapes.items()}}


def from_json(document: Json) -> Shaped:
    """Return the network of a document of :func:`to_json`."""
    nodes = tuple(
        Node(path=node["path"], op=_op(node["op"], node["attributes"]), inputs=tuple(node["inputs"]))
        for node in document["nodes"]
    )
    shapes = {path: tuple(shape) for path, shape in document["shapes"].items()}
    return Shaped(network=Network(nodes=nodes), shapes=shapes)


def digest(shaped: Shaped) -> str:
    """Return the SHA-256 of a network's normal form: equal for networks that differ in names only."""
    nodes = ordered(normal_form(shaped).network)
    number = {node.path: position for position, node in enumerate(nodes)}
    rows = [
        [kind(node.op), {} if isinstance(node.op, Output) else _attributes(node.op), [number[p] for p in node.inputs]]
        for node in nodes
    ]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def _attributes(op: Op) -> Json:
    return {field.name: getattr(op, field.name) for field in fields(op)}


def _op(name: str, attributes: Json) -> Op:
    record = _OPS[name]
    hints = get_type_hints(record)
    op: Op = record(**{key: _value(hints[key], value) for key, value in attributes.items()})
    return op


def _value(hint: object, value: object) -> object:
    if isinstance(value, list):
        return tuple(value)
    for enum in _ENUMS:
        if hint is enum:
            return enum(str(value))
    return value
