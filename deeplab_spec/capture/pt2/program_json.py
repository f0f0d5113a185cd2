"""Checks the JSON of an exported program before the framework builds anything from it.

The framework evaluates parts of that JSON as code: names of values and arguments become the source of
a function, sizes are evaluated as expressions, operators are looked up by name, and the structure of
results may name modules to import. Each part must be as an exporter writes it, and parts that the graph
does not need are removed.
"""

import ast
import json
import re
from typing import Any, Final

from deeplab_spec.capture.fx.document import check_target
from deeplab_spec.capture.pt2.zip_archive import ArchiveError
from deeplab_spec.errors import CaptureError

CPU: Final = {"type": "cpu", "index": None}
"""The device of every tensor of a file."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_DOTTED: Final = re.compile(r"[\w.+:/ -]*")
_SYMBOL: Final = re.compile(r"s\d{1,6}", re.ASCII)
_NAMED: Final = frozenset({"name", "as_name", "forward_arg_names"})
_NOT_READ: Final = {
    "as_custom_obj": "an object of a custom class",
    "as_graph": "a program within the program",
    "as_operator": "an operator as an argument",
    "custom_obj": "an object of a custom class",
    "token": "an effect token",
}
_FUNCTIONS: Final = frozenset(
    {
        *("Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "ModularIndexing"),
        *("CeilToInt", "FloorToInt", "TruncToInt", "RoundToInt", "TruncToFloat", "ToFloat", "IntTrueDiv", "Identity"),
        *("FloatTrueDiv", "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan"),
        *("And", "Or", "Not", "Integer", "Symbol"),
    }
)
_NUMBERS: Final[dict[str, dict[str, Any]]] = {
    "tensor_values": {"as_int": 1},
    "sym_int_values": {"as_int": 1},
    "sym_float_values": {"as_float": 1.0},
    "sym_bool_values": {"as_bool": True},
}
_CONTAINERS: Final = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
_MAX_EXPRESSION: Final = 2_000
_MAX_POWER: Final = 4
_MAX_NUMBER: Final = 1 << 63


def sanitised(program: object) -> dict[str, Any]:
    """Return a program, parsed from JSON, without the parts that its graph does not need.

    Every device becomes the CPU. The metadata of a call keeps only the stack of modules. The exporter's
    guards are removed: :class:`ExportedFile` checks sizes itself.

    Raises:
        ArchiveError: If a part of it is not as an exporter writes it.
    """
    if not isinstance(program, dict) or not isinstance(program.get("graph_module"), dict):
        raise ArchiveError("is not an exported program: it has no graph")
    graph = program["graph_module"].get("graph")
    if not isinstance(graph, dict):
        raise ArchiveError("is not an exported program: it has no graph")
    ranges = program.get("range_constraints")
    if not isinstance(ranges, dict) or not all(_SYMBOL.fullmatch(name) for name in ranges):
        raise ArchiveError("has sizes that depend on values")
    _remove_expressions(graph)
    checked: dict[str, Any] = _checked(program, "")
    return checked


def _remove_expressions(graph: dict[str, Any]) -> None:
    """Replace every symbolic size by a number, except those of inputs; sizes are computed when the graph is read."""
    inputs = {_input_name(argument) for argument in _items(graph, "inputs", list)}
    for kind, number in _NUMBERS.items():
        values = _items(graph, kind, dict)
        values |= {name: _numbers(value, number) for name, value in values.items() if name not in inputs}


def _items(graph: dict[str, Any], field: str, kind: type) -> Any:  # noqa: ANN401 - parsed JSON
    items = graph.get(field, kind())
    if not isinstance(items, kind):
        raise ArchiveError(f"has a graph whose {field} are a {type(items).__name__}")
    return items


def _input_name(argument: object) -> str:
    match argument:
        case {"as_tensor": {"name": str(name)}}:
            return name
        case _:
            return ""


def _numbers(value: object, number: dict[str, Any]) -> Any:  # noqa: ANN401 - parsed JSON
    match value:
        case {"as_expr": _}:
            return dict(number)
        case dict():
            return {name: _numbers(item, number) for name, item in value.items()}
        case list():
            return [_numbers(item, number) for item in value]
        case _:
            return value


def _checked(value: object, key: str) -> Any:  # noqa: ANN401 - parsed JSON
    match key, value:
        case "metadata", dict():
            return _modules_only(value)
        case "device" | "as_device", _:
            return dict(CPU)
        case "guards_code", _:
            return []
        case "treespec_namedtuple_fields", _:
            return {}
        case "module_call_graph", list():
            return [_checked(entry, key) for entry in value[:1]]
        case _, dict():
            return {_field(name): _checked(item, name) for name, item in value.items()}
        case _, list():
            return [_checked(item, key) for item in value]
        case _, str():
            return _text(value, key)
        case _:
            return value


def _modules_only(metadata: dict[str, Any]) -> dict[str, str]:
    stack = metadata.get("nn_module_stack")
    return {"nn_module_stack": stack} if isinstance(stack, str) and stack.isprintable() else {}


def _field(name: str) -> str:
    if name in _NOT_READ:
        raise ArchiveError(f"holds {_NOT_READ[name]}, which is not read")
    if not _IDENTIFIER.fullmatch(name):
        raise ArchiveError(f"names a value {_shown(name)}, which is not a name")
    return name


def _text(text: str, key: str) -> str:
    if key == "target":
        _check_operator(text)
    elif key == "expr_str":
        _check_expression(text)
    elif key in ("in_spec", "out_spec"):
        _check_structure(text)
    elif key in _NAMED:
        if text and not _IDENTIFIER.fullmatch(text):
            raise ArchiveError(f"names a value {_shown(text)}, which is not a name")
    elif key not in ("as_string", "as_strings") and not _DOTTED.fullmatch(text):
        raise ArchiveError(f"has a {key} that no exporter writes: {_shown(text)}")
    return text


def _check_operator(target: str) -> None:
    try:
        check_target(target.removeprefix("torch.ops."))
    except CaptureError as error:
        raise ArchiveError(error.reason) from error


def _check_expression(text: str) -> None:
    try:
        for node in ast.walk(ast.parse(text[:_MAX_EXPRESSION], mode="eval").body):
            _check_term(node)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ArchiveError(f"has a size that no exporter writes: {_shown(text)}") from error


def _check_term(node: ast.AST) -> None:
    """Allow arithmetic on symbols and whole numbers, written as calls; nothing else."""
    match node:
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))], keywords=keywords):
            if not _SYMBOL.fullmatch(name) or any(not isinstance(word.value, ast.Constant) for word in keywords):
                raise ValueError(name)
        case ast.Call(func=ast.Name(id="Pow"), args=[ast.Call(func=ast.Name(id="Symbol")), power], keywords=[]):
            if ast.unparse(power) not in [f"Integer({number})" for number in range(_MAX_POWER + 1)]:
                raise ValueError(power)
        case ast.Call(func=ast.Name(id="Pow" | "Symbol")):
            raise ValueError(node)
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
            return
        case ast.Constant(value=bool()) | ast.UnaryOp(op=ast.USub()) | ast.USub() | ast.Load() | ast.keyword():
            return
        case ast.Constant(value=int(number)) if abs(number) < _MAX_NUMBER:
            return
        case ast.Constant(value=str(name)) if _SYMBOL.fullmatch(name):
            return
        case ast.Name(id=name) if name in _FUNCTIONS:
            return
        case _:
            raise ValueError(node)


def _check_structure(text: str) -> None:
    """Allow nested tuples, lists and dicts whose keys are names."""
    try:
        _, root = json.loads(text)
        waiting = [root]
        while waiting:
            part = waiting.pop()
            if part["type"] not in _CONTAINERS:
                raise ArchiveError(f"takes or returns a {_shown(str(part['type']))}; tuples, lists and dicts are read")
            _check_keys(json.loads(part["context"] or "null"))
            waiting += part["children_spec"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArchiveError(
            f"has a structure of arguments or results that no exporter writes: {_shown(text)}"
        ) from error


def _check_keys(keys: object) -> None:
    if keys is not None and not isinstance(keys, list):
        raise TypeError(keys)
    for key in keys or ():
        if not isinstance(key, int) and not _IDENTIFIER.fullmatch(key):
            raise ValueError(key)


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")  # noqa: PLR2004 - a part of one line
