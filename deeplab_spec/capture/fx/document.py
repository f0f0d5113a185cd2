"""Reads a program that arrived as plain JSON: checks every call, and runs it on fake tensors of the requested size.

A module's program comes over the wire, and an exported file's is made from the file: both are read here. Arithmetic on
sizes becomes numbers, and every value gets the shape that its operator gives it, whatever the document states.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from deeplab_spec.capture.candidate.process import CHECKS, decoded, quiet_export, resolve
from deeplab_spec.errors import CaptureError

OPERATOR: Final = re.compile(r"(aten|prims)\.(?!__)([A-Za-z_]\w*)\.(?!__)([A-Za-z_]\w*)", re.ASCII)
TOUCHES_FILES: Final = frozenset({"from_file", "load", "save"})
ON_SIZES: Final = frozenset(
    {
        *(f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "getitem")),
        *(f"_operator.{name}" for name in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_")),
        *(f"math.{name}" for name in ("ceil", "floor", "trunc")),
        *(f"torch.sym_{name}" for name in ("float", "int", "ite", "max", "min", "not", "sum")),
    }
)
"""Functions on sizes that a program may call beside operators."""

_MOST_CALLS: Final = 50_000
_MOST_ELEMENTS: Final = 2**30
"""Elements of the largest value that a step of a captured graph may make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program at one size.

    Attributes:
        graph: Its calls; the fake value of each is ``meta["val"]``, its module's path and type are
            ``meta["module"]``, and the paths of all modules around it ``meta["within"]``.
        inputs: The name in the state of each placeholder; None for an argument of the caller.
        results: The returned values, by their place in the returned value.
        constants: Tensors that are not in the state, by name.
    """

    graph: fx.Graph
    inputs: Mapping[fx.Node, str | None]
    results: tuple[tuple[str, fx.Node], ...]
    constants: Mapping[str, Tensor]


def check_target(target: object) -> str:
    """Return the name of a function that a program calls, if it is an operator on tensors or a function on sizes.

    Raises:
        CaptureError: If it is another function.
    """
    text = target if isinstance(target, str) else type(target).__name__
    match = OPERATOR.fullmatch(text)
    if not (match and match.group(2).rstrip("_") not in TOUCHES_FILES) and text not in ON_SIZES:
        raise CaptureError(f"calls {text[:80]!a}, which is not an operator of PyTorch on tensors; it is refused")
    return text


def read_document(
    document: Any,  # noqa: ANN401 - parsed JSON
    shapes: Sequence[tuple[int, ...]],
    state: Mapping[str, Tensor],
    constants: Mapping[str, Tensor],
) -> Program:
    """Read a program at the size of its inputs.

    Args:
        document: The program, as :func:`deeplab_spec.capture.candidate.process.program_document` writes it.
        shapes: The shapes of the caller's tensors, in order.
        state: The parameters and buffers by name.
        constants: Further tensors by name.

    Raises:
        CaptureError: If it is malformed, calls something other than an operator, or does not run at that size.
    """
    try:
        with quiet_export(), FakeTensorMode(), torch.no_grad():
            return _Reader(shapes, {**constants, **state}).read(document, constants)
    except CaptureError:
        raise
    except Exception as error:
        raise CaptureError(f"the graph cannot be read at this size: {type(error).__name__}") from error


class _Reader:
    """Builds the graph of a program, call by call."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], tensors: Mapping[str, Tensor]) -> None:
        self.shapes = list(shapes)
        self.tensors = tensors
        self.graph = fx.Graph()
        self.values: dict[str, Any] = {}  # fake tensors, and numbers
        self.copies: dict[str, Any] = {}  # nodes, and numbers
        self.inputs: dict[fx.Node, str | None] = {}

    def read(self, document: Any, constants: Mapping[str, Tensor]) -> Program:  # noqa: ANN401 - parsed JSON
        """Read a document."""
        if len(document["nodes"]) > _MOST_CALLS:
            raise CaptureError(f"the graph has more than {_MOST_CALLS} calls")
        for entry in document["inputs"]:
            self._placeholder(entry)
        for entry in document["nodes"]:
            self._call(entry)
        returned = ((str(path), decoded(value, self.copies.__getitem__)) for path, value in document["results"])
        results = tuple((path, node) for path, node in returned if isinstance(node, fx.Node))
        if not results:
            raise CaptureError("the candidate returns no tensor")
        self.graph.output(tuple(node for _, node in results))
        return Program(graph=self.graph, inputs=self.inputs, results=results, constants=constants)

    def _placeholder(self, entry: Mapping[str, Any]) -> None:
        name, state = str(entry["name"]), entry["state"]
        if state is None and entry["shape"] is None:
            self.values[name] = self.copies[name] = decoded(entry["value"], self.copies.__getitem__)
            return
        if state is not None and state not in self.tensors:
            return  # a tensor without numbers in memory; a call that reads it is refused
        shape = self.shapes.pop(0) if state is None else tuple(self.tensors[state].shape)
        dtype: torch.dtype = getattr(torch, str(entry["dtype"]))
        node = self.graph.placeholder(name)
        self.inputs[node] = state
        self._add(name, node, torch.empty(shape, dtype=dtype))

    def _call(self, entry: Mapping[str, Any]) -> None:
        target = resolve(check_target(entry["target"]))
        if isinstance(target, OpOverload) and target.overloadpacket.__name__ in CHECKS:
            return
        arguments, named = self._arguments(entry, self.values)
        value = target(*arguments, **named)
        name = str(entry["name"])
        if isinstance(value, int | float | bool):
            self.values[name] = self.copies[name] = value
            return
        arguments, named = self._arguments(entry, self.copies)
        node = self.graph.create_node("call_function", target, tuple(arguments), named, name=name)
        path, kind = entry["module"]
        node.meta["module"] = (str(path), str(kind))
        node.meta["within"] = tuple(map(str, entry.get("within", ())))
        self._add(name, node, value)

    @staticmethod
    def _arguments(entry: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        named = {str(name): decoded(value, values.__getitem__) for name, value in entry["kwargs"].items()}
        return [decoded(value, values.__getitem__) for value in entry["args"]], named

    def _add(self, name: str, node: fx.Node, value: Any) -> None:  # noqa: ANN401 - a fake tensor, or several
        if any(tensor.numel() > _MOST_ELEMENTS for tensor in pytree.tree_leaves(value) if isinstance(tensor, Tensor)):
            raise CaptureError(f"the graph has a value of more than {_MOST_ELEMENTS} elements")
        node.meta["val"] = value
        self.values[name], self.copies[name] = value, node
