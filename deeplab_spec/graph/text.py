"""A network as lines of text, and back: one line per node, made to be read in a diff.

A line is the path, the operator with the fields that are not their record's default, and what it
reads::

    stem.conv = Conv2d(channels_in=3, channels_out=32, kernel=3x3, stride=2x2, padding=1,1,1,1) <- input
    tap low_level = stem.conv

Text, and a path that holds anything but plain characters, is written as JSON writes a string. Where a
node comes from is not written.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field, fields
from enum import StrEnum
from typing import Any, Final, get_args, get_type_hints

from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    ActivationKind,
    Margins,
    Op,
    Padding,
    Pair,
    PoolKind,
    ResizeMode,
    kind,
)

_STRING: Final = r'"(?:[^"\\\n]++|\\.)*+"'  # possessive: a line that does not fit takes no second look
NAME: Final = rf"(?:[\w.#:/'\[\]-]++|{_STRING})"
"""Pattern of a path or another name, as it is written."""

_NODE: Final = re.compile(
    rf"({NAME}) = (\w+)\(((?:[^\"()\n]++|{_STRING})*+)\)(?: <- ({NAME}(?:, {NAME})*+))?", re.ASCII
)
_TAP: Final = re.compile(rf"tap ({NAME}) = ({NAME})", re.ASCII)
_FIELD: Final = re.compile(rf"(\w+)=({_STRING}|[^\s\"]*)(, |$)", re.ASCII)
_PLAIN: Final = re.compile(r"[\w.#:/'\[\]-]+", re.ASCII)
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_SHOWN: Final = 60
"""So many characters of a line that cannot be read are shown."""


def to_lines(network: Network) -> Iterator[str]:
    """Write a network: its nodes in order, then its taps."""
    for node in network:
        yield node_line(node)
    yield from tap_lines(network)


def from_lines(lines: Iterable[str]) -> Network:
    """Read a network.

    Raises:
        GraphError: If a line cannot be read, or the nodes are no network.
    """
    nodes, taps = [], []
    for line in lines:
        tap = read_tap(line)
        if tap:
            taps.append(tap)
            continue
        node, rest = read_node(line)
        if rest:
            raise GraphError(node.path, "nothing may follow a node", shown(rest))
        nodes.append(node)
    return Network(nodes=tuple(nodes), taps=tuple(taps))


def node_line(node: Node) -> str:
    """Write one node.

    >>> from deeplab_spec.graph.ops import BatchNorm
    >>> node_line(Node(path="norm", op=BatchNorm(channels=32, eps=1e-3, momentum=None), inputs=("conv",)))
    'norm = BatchNorm(channels=32, eps=0.001, momentum=none) <- conv'
    """
    hints = _hints(type(node.op))
    stated = ", ".join(
        f"{field.name}={_FORMS[hints[field.name]][0](getattr(node.op, field.name))}"
        for field in fields(node.op)
        if getattr(node.op, field.name) != field.default
    )
    reads = f" <- {', '.join(map(write_name, node.inputs))}" if node.inputs else ""
    return f"{write_name(node.path)} = {kind(node.op)}({stated}){reads}"


def tap_lines(network: Network) -> Iterator[str]:
    """Write the public names of a network's values."""
    for name, path in network.taps:
        yield f"tap {write_name(name)} = {write_name(path)}"


def read_node(line: str) -> tuple[Node, str]:
    """Read one node, and return what stands behind it.

    Raises:
        GraphError: If the line is no node, or its operator cannot have these fields.
    """
    found = _NODE.match(line)
    if not found:
        raise GraphError("line", "must be PATH = OPERATOR(FIELD=VALUE, ...) <- INPUT, ...", shown(line))
    path = read_name(found[1])
    inputs = tuple(read_name(name) for name in re.findall(NAME, found[4] or "", re.ASCII))
    return Node(path=path, op=_read_op(path, found[2], found[3]), inputs=inputs), line[found.end() :]


def read_tap(line: str) -> tuple[str, str] | None:
    """Read a tap; None if the line is none."""
    found = _TAP.fullmatch(line)
    return (read_name(found[1]), read_name(found[2])) if found else None


def write_name(name: str) -> str:
    """Write a path or another name: as it is, or as a string where it has other characters.

    >>> write_name("head.convs.1['out']"), write_name("two words")
    ("head.convs.1['out']", '"two words"')
    """
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


def read_name(text: str) -> str:
    """Read a name that fits :data:`NAME`.

    Raises:
        GraphError: If it is a string with an escape that there is not.
    """
    return _string(text) if text.startswith('"') else text


def shown(text: str) -> str:
    """Return the beginning of a text, for a message."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _read_op(path: str, name: str, text: str) -> Op:
    if name not in _OPERATORS:
        raise GraphError(path, f"the operator must be one of {', '.join(_OPERATORS)}", shown(name))
    operator = _OPERATORS[name]
    hints, known = _hints(operator), {field.name: field for field in fields(operator)}
    values: dict[str, Any] = {}
    for field, value in _split(path, text):
        if field not in known or field in values:
            raise GraphError(path, f"a field of {name} must be one of {', '.join(known) or 'none'}, once", shown(field))
        try:
            values[field] = _FORMS[hints[field]][1](value)
        except ValueError:
            raise GraphError(path, f"{field} cannot have this value", shown(value)) from None
    missing = [field.name for field in known.values() if _required(field) and field.name not in values]
    if missing:
        raise GraphError(path, f"{name} must state {', '.join(missing)}", shown(text))
    op: Op = operator(**values)
    return op


def _split(path: str, text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        found = _FIELD.match(text, position)
        if not found or (found.end() == len(text)) == bool(found[3]):
            raise GraphError(path, "fields must be FIELD=VALUE, with a comma between", shown(text[position:]))
        yield found[1], found[2]
        position = found.end()


def _required(field: "Field[Any]") -> bool:
    return field.default is MISSING


def _hints(operator: type) -> dict[str, Any]:
    if operator not in _HINTS:
        _HINTS[operator] = get_type_hints(operator)
    return _HINTS[operator]


def _string(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, str):
        raise GraphError("text", "must be a string as in JSON", shown(text))
    return value


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if repr(value) != text:
        raise ValueError(text)
    return value


def _boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(text)
    return text == "true"


def _pair(text: str) -> Pair:
    first, second = map(_integer, text.split("x"))
    return (first, second)


def _margins(text: str) -> Margins:
    top, bottom, left, right = map(_integer, text.split(","))
    return (top, bottom, left, right)


def _write_margins(value: Padding) -> str:
    return value if value == "same" else ",".join(map(str, value))


_Form = tuple[Callable[[Any], str], Callable[[str], Any]]


def _kind(kinds: type[StrEnum]) -> _Form:
    return (str, kinds)


def _or_none(form: _Form) -> _Form:
    write, read = form
    return (
        lambda value: "none" if value is None else write(value),
        lambda text: None if text == "none" else read(text),
    )


_FLOAT: Final[_Form] = (lambda value: repr(float(value)), _float)
_PAIR: Final[_Form] = (lambda value: "x".join(map(str, value)), _pair)

_FORMS: Final[dict[Any, _Form]] = {
    int: (str, _integer),
    bool: (lambda value: str(value).lower(), _boolean),
    float: _FLOAT,
    float | None: _or_none(_FLOAT),
    str: (json.dumps, _string),
    Pair: _PAIR,
    Pair | None: _or_none(_PAIR),
    Margins: (_write_margins, _margins),
    Padding: (_write_margins, lambda text: "same" if text == "same" else _margins(text)),
    ActivationKind: _kind(ActivationKind),
    PoolKind: _kind(PoolKind),
    ResizeMode: _kind(ResizeMode),
}
"""How a field is written and read, by its type."""

_OPERATORS: Final[dict[str, type]] = {operator.__name__: operator for operator in get_args(Op)}
_HINTS: Final[dict[type, dict[str, Any]]] = {}
