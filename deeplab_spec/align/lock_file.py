"""The file of a lock: one JSON record per line, so that a diff shows which attribute changed.

The file holds no time and no facts about the machine. Costs follow from the nodes and are written for the reader.
A lock file is untrusted input: it is parsed, never executed, and accepted only if its digest is right, its
nodes are a network whose shapes agree, and writing the lock again gives the same text.
"""

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields
from functools import reduce
from hashlib import sha256
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError, create_model

from deeplab_spec.align.lock import BlockTotals, Count, Lock, NearestNetwork, Record, Response, Shape
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.analysis.sizes import shape_of
from deeplab_spec.errors import GraphError, SpecError, TargetError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Add, Concat, Input, Multiply, Op, Opaque, Resize, check_numbers, check_shape

FORMAT: Final = 2
MOST_BYTES: Final = 64 * 2**20
"""A larger file is refused unread."""

MOST_LINES: Final = 20_000
"""A longer file is refused unparsed: alignment takes the square of the number of nodes."""

_FIRST: Final = '{"type": "lock", "format": '
_NOTE: Final = "Made by `deeplab-spec lock`; compared by `deeplab-spec certify TARGET --against FILE`. Do not edit."
_TITLE: Final = f'{_FIRST}{FORMAT}, "note": "{_NOTE}"}}\n'
_AGAIN: Final = "make it again: deeplab-spec lock TARGET -o FILE"
_LONGEST: Final = 400
"""Characters of an error message after the file name."""
_SIDES: Final = 3

_Int = Annotated[int, Field(ge=-(10**12), le=10**12)]


class _Network(Record):
    type: Literal["network"] = "network"
    target: str
    output_stride: Count
    classes: Count
    image: tuple[Count, Count]
    parameters: int
    multiply_adds: int


class _Tap(Record):
    type: Literal["tap"] = "tap"
    name: str
    path: str


def _bounded(hint: Any) -> Any:  # noqa: ANN401 - a type expression
    """Return a type whose whole numbers are bounded."""
    if hint is int:
        return _Int
    if get_origin(hint) in {None, Literal}:
        return hint
    parts = tuple(map(_bounded, get_args(hint)))
    return tuple[parts] if get_origin(hint) is tuple else reduce(or_, parts)  # type: ignore[valid-type]


def _record_of(operator: type) -> type[Record]:
    """Return the record of a node with an operator: its path, the operator's fields, its inputs and its shape."""
    hints = get_type_hints(operator)
    attributes = {
        field.name: (_bounded(hints[field.name]), ... if field.default is MISSING else field.default)
        for field in fields(operator)
    }
    declared: dict[str, Any] = {
        "type": (Literal[operator.__name__], ...),
        "path": (str, ...),
        **attributes,
        "inputs": (tuple[str, ...], ()),
        "shape": (Shape, ...),
        "like": (str | None, None),
        "shared": (bool, False),
        "times": (Annotated[int, Field(ge=1, le=10**9)], 1),
    }
    return create_model(operator.__name__, __base__=Record, **declared)


_OPERATORS: Final[dict[str, Any]] = {operator.__name__: operator for operator in get_args(Op)}
_NODES: Final[dict[str, Any]] = {name: _record_of(operator) for name, operator in _OPERATORS.items()}
_KINDS: Final[Any] = reduce(or_, (_Network, NearestNetwork, Response, BlockTotals, *_NODES.values(), _Tap))
_ARITY: Final = {Input: (0, 0), Add: (2, 2), Multiply: (2, 2), Concat: (1, MOST_LINES), Opaque: (0, MOST_LINES)}
"""The least and the largest number of inputs of an operator; of all others 1."""

_LINE: Final[TypeAdapter[Any]] = TypeAdapter(Annotated[_KINDS, Field(discriminator="type")])


def text(lock: Lock) -> str:
    """Return the text of a lock's file."""
    body = _TITLE + "".join(map(_line, _records(lock)))
    return body + _seal(body)


def _line(record: Record) -> str:
    return json.dumps(record.model_dump(exclude_defaults=type(record) in _NODES.values())) + "\n"


def _seal(body: str) -> str:
    return json.dumps({"type": "digest", "sha256": sha256(body.encode()).hexdigest()}) + "\n"


def _records(lock: Lock) -> Iterator[Record]:
    yield _Network(**{name: getattr(lock, name) for name in _Network.model_fields if name != "type"})
    if lock.nearest is not None:
        yield lock.nearest
    yield from lock.responses
    yield from lock.blocks
    normal = lock.normal
    for node in normal.network:
        name = type(node.op).__name__
        yield _NODES[name](
            type=name,
            path=node.path,
            **{field.name: getattr(node.op, field.name) for field in fields(node.op)},
            inputs=node.inputs,
            shape=normal.shapes[node.path],
            like=normal.likes.get(node.path),
            shared=node.path in lock.shared,
            times=normal.times.get(node.path, 1),
        )
    for tap, path in normal.network.taps:
        yield _Tap(name=tap, path=path)


def load(path: Path) -> Lock:
    """Read the file of a lock.

    Raises:
        TargetError: If it cannot be read, is too large, or is not a lock.
    """
    name = str(path)
    try:
        if not path.is_file():
            raise TargetError(name, "is not a file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise TargetError(name, f"cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise TargetError(name, f"is not a lock: it is larger than {MOST_BYTES // 2**20} MiB")
    try:
        return read(content.decode(), name)
    except UnicodeDecodeError:
        raise TargetError(name, "is not a lock: it is not text") from None


def read(content: str, name: str) -> Lock:
    """Read the text of a lock.

    Raises:
        TargetError: If it is not a lock, is in another format, was edited, or contradicts itself.
    """
    content = content.replace("\r\n", "\n")  # some checkouts end lines so
    if not content.startswith(_TITLE):
        other = content.startswith((_FIRST, "deeplab-spec lock, schema "))
        raise TargetError(name, f"is a lock in another format; {_AGAIN}" if other else "is not a lock")
    body, _, _ = content.removesuffix("\n").rpartition("\n")
    body += "\n"
    if content != body + _seal(body):
        raise TargetError(name, f"was edited or damaged; {_AGAIN}")
    lines = body.splitlines(keepends=True)
    if len(lines) > MOST_LINES:
        raise TargetError(name, f"is not a lock: it has more than {MOST_LINES:,} lines")
    records = [_parsed(line, number, name) for number, line in enumerate(lines[1:], start=2)]
    try:
        lock = _lock(records)
        _check(lock)
    except (GraphError, SpecError) as error:
        raise TargetError(name, _one_line(str(error))) from error
    again = text(lock).splitlines(keepends=True)[:-1]
    for number, (line, expected) in enumerate(zip([*lines, ""], [*again, ""], strict=False), start=1):
        if line != expected:
            rule = f"must be {_one_line(expected)}" if expected else "must not be there"
            raise TargetError(name, f"line {number} contradicts the other lines: it {rule}")
    return lock


def _parsed(line: str, number: int, name: str) -> Any:  # noqa: ANN401 - one of the records
    try:
        return _LINE.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in (f"line {number}", *first["loc"]))
        raise TargetError(name, _one_line(f"{where}{first['msg']}")) from None


def _one_line(message: str) -> str:
    message = " ".join(message.split())
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."


def _lock(records: list[Any]) -> Lock:
    """Return the lock that records describe.

    Raises:
        GraphError: If the nodes are not a network, or the record of the network is missing.
        SpecError: If a variant or a choice is unknown.
    """
    network = next((record for record in records if isinstance(record, _Network)), None)
    if network is None:
        raise GraphError("network", "must be described by one line", "none")
    nodes = [record for record in records if record.type in _NODES]
    graph = Network(
        nodes=tuple(Node(path=record.path, op=_operator(record), inputs=record.inputs) for record in nodes),
        taps=tuple((record.name, record.path) for record in records if isinstance(record, _Tap)),
    )
    return Lock(
        target=network.target,
        output_stride=network.output_stride,
        classes=network.classes,
        image=network.image,
        normal=Shaped(
            network=graph,
            shapes={record.path: record.shape for record in nodes},
            likes={record.path: record.like for record in nodes if record.like is not None},
            times={record.path: record.times for record in nodes if record.times > 1},
        ),
        shared=frozenset(record.path for record in nodes if record.shared),
        nearest=next((record for record in records if isinstance(record, NearestNetwork)), None),
        responses=tuple(record for record in records if isinstance(record, Response)),
    )


def _operator(record: Any) -> Op:  # noqa: ANN401 - the record of a node
    operator = _OPERATORS[record.type]
    op: Op = operator(**{field.name: getattr(record, field.name) for field in fields(operator)})
    return op


def _check(lock: Lock) -> None:
    """Check that every node has as many inputs as its operator takes, and that all shapes agree.

    Raises:
        GraphError: If not.
    """
    normal = lock.normal
    for node in normal.network:
        least, most = (
            (2, 2) if isinstance(node.op, Resize) and node.op.size is None else _ARITY.get(type(node.op), (1, 1))
        )
        if not least <= len(node.inputs) <= most:
            raise GraphError(node.path, f"must have {least} inputs", len(node.inputs))
        check_numbers(node.path, node.op)
        check_shape(node.path, (1, *normal.shapes[node.path]))
        _check_shape(node, normal.shapes[node.path], [normal.shapes[path] for path in node.inputs])
    for path, like in normal.likes.items():
        if like not in normal.network or not isinstance(normal.network[path].op, Resize):
            raise GraphError(path, "only a resize takes the size of another node", like)
    first, *others = normal.network.inputs
    if not others and normal.shapes[first.path][1:] != lock.image:
        raise GraphError(first.path, f"must have the image's size {lock.image}", normal.shapes[first.path])


def _check_shape(node: Node, stated: tuple[int, ...], inputs: list[tuple[int, ...]]) -> None:
    if stated and (len(stated) != _SIDES or min(stated) < 1):
        raise GraphError(node.path, "a shape must be channels, height and width, each 1 or more", stated)
    expected: tuple[int, ...] = stated
    if isinstance(node.op, Input):
        expected = (node.op.channels, *stated[1:])
    elif not isinstance(node.op, Opaque) and stated and all(inputs):
        expected = shape_of(node, [(channels, height, width) for channels, height, width in inputs])
    if expected != stated:
        raise GraphError(node.path, f"the shape must be {expected}, which follows from its inputs", stated)
