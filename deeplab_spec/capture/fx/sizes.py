"""Fixes the sizes of an exported program.

The graph is run once on tensors without values, of the wanted size: what it works out with sizes
becomes numbers, and every value gets the shape that it has, whatever the file says about it. Names
and places stay as they are.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.utils._sympy.numbers import int_oo

from deeplab_spec.capture.file_module import Shape
from deeplab_spec.errors import CaptureError

_FROM_ONE: Final = 2
"""The least lower bound that an exporter states; it means any size, as it means to the framework."""


def tensor_inputs(program: ExportedProgram) -> tuple[fx.Node, ...]:
    """Return the nodes through which a caller's tensors enter, in order."""
    names = set(program.graph_signature.user_inputs)
    placed = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return tuple(node for node in placed if isinstance(node.meta.get("val"), Tensor))


def stated_shape(node: fx.Node) -> Shape:
    """Return the shape of a value; None for a side that is free."""
    return tuple(side if isinstance(side, int) else None for side in node.meta["val"].shape)


def check_sizes(program: ExportedProgram, inputs: Sequence[Tensor]) -> None:
    """Refuse inputs that the program was not exported for.

    Raises:
        CaptureError: If their number, or a size of one, is another; sides that the program ties
            together must agree, and each must lie in the range that the exporter found.
    """
    nodes = tensor_inputs(program)
    if len(nodes) != len(inputs):
        raise CaptureError(f"the program was exported for {len(nodes)} inputs, but got {len(inputs)}")
    for node, tensor in zip(nodes, inputs, strict=True):
        expected, actual = stated_shape(node), tuple(tensor.shape)
        same = len(expected) == len(actual) and all(
            side in (None, size) for side, size in zip(expected, actual, strict=True)
        )
        if not same:
            shown = ", ".join("any" if side is None else str(side) for side in expected)
            raise CaptureError(f"the program was exported for {node.name} of shape ({shown}), but got {actual}")
    _check_symbols(program, nodes, inputs)


def _check_symbols(program: ExportedProgram, nodes: Sequence[fx.Node], inputs: Sequence[Tensor]) -> None:
    found: dict[Any, int] = {}
    for name, expression, size in sorted(_symbolic(nodes, inputs), key=lambda item: not item[1].is_symbol):
        if expression.is_symbol:
            expected = found.setdefault(expression, size)
            allowed = program.range_constraints.get(expression)
            least = allowed.lower if allowed is not None and allowed.lower > _FROM_ONE else 0
            if allowed is not None and not least <= size <= allowed.upper:
                text = f"of {least} or more" if allowed.upper == int_oo else f"from {least} to {allowed.upper}"
                raise CaptureError(f"the program was exported for a side of {name} {text}, but got {size}")
        else:
            expected = int(expression.subs(found))
        if expected != size:
            raise CaptureError(f"the program was exported for a side of {name} of {expected} here, but got {size}")


def _symbolic(nodes: Sequence[fx.Node], inputs: Sequence[Tensor]) -> Iterator[tuple[str, Any, int]]:
    for node, tensor in zip(nodes, inputs, strict=True):
        for side, size in zip(node.meta["val"].shape, tensor.shape, strict=True):
            if isinstance(side, torch.SymInt):
                yield node.name, side.node.expr, int(size)


def at_sizes(program: ExportedProgram, inputs: Sequence[Tensor]) -> ExportedProgram:
    """Return a program as it is for inputs of one size.

    Args:
        program: The program, of fixed sizes or not.
        inputs: What fits it.

    Raises:
        CaptureError: If the graph cannot be run at that size.
    """
    sizes = dict(zip(tensor_inputs(program), (tuple(tensor.shape) for tensor in inputs), strict=True))
    try:
        graph = _fixed(program.graph, sizes)
        return ExportedProgram(
            root=program.graph_module,
            graph=graph,
            graph_signature=program.graph_signature,
            state_dict=program.state_dict,
            range_constraints={},
            module_call_graph=program.module_call_graph,
            constants=program.constants,
            verifiers=program.verifiers,
        )
    except Exception as error:
        raise CaptureError(f"the program cannot be read at this size: {type(error).__name__}") from error


def _fixed(graph: fx.Graph, sizes: dict[fx.Node, tuple[int, ...]]) -> fx.Graph:
    result = fx.Graph()
    values: dict[fx.Node, Any] = {}
    copies: dict[fx.Node, Any] = {}
    with FakeTensorMode(), torch.no_grad():
        for node in graph.nodes:
            if node.op == "placeholder":
                values[node] = _placed(node, sizes)
            elif node.op == "call_function":
                values[node] = node.target(*fx.map_arg(node.args, values.get), **fx.map_arg(node.kwargs, values.get))
            elif node.op == "output":
                values[node] = fx.map_arg(node.args[0], values.get)
            if isinstance(values[node], int | float | bool) and node.op != "placeholder":
                copies[node] = values[node]
            elif values[node] is not None or node.op == "placeholder":
                copies[node] = result.node_copy(node, copies.__getitem__)
                copies[node].meta["val"] = values[node]
    return result


def _placed(node: fx.Node, sizes: dict[fx.Node, tuple[int, ...]]) -> Any:  # noqa: ANN401 - a tensor, or a constant
    stated = node.meta.get("val")
    if not isinstance(stated, Tensor):
        return stated
    shape = sizes.get(node, tuple(stated.shape))
    return torch.empty(shape, dtype=stated.dtype, device=stated.device)
