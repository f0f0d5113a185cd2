"""Specialises an exported program to fixed sizes.

The graph is run once on fake tensors of the requested size: arithmetic on sizes becomes numbers, and
every value gets its actual shape, whatever the file states. Names stay.
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
"""The lowest bound that an exporter states; as in the framework, it allows any size."""


def tensor_inputs(program: ExportedProgram) -> tuple[fx.Node, ...]:
    """Return the placeholders of the caller's tensors, in order."""
    names = set(program.graph_signature.user_inputs)
    placed = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return tuple(node for node in placed if isinstance(node.meta.get("val"), Tensor))


def stated_shape(node: fx.Node) -> Shape:
    """Return the shape of a value; None for a symbolic side."""
    return tuple(side if isinstance(side, int) else None for side in node.meta["val"].shape)


def check_symbols(program: ExportedProgram, inputs: Sequence[Tensor]) -> None:
    """Reject inputs whose symbolic sides do not fit the program.

    Raises:
        CaptureError: If sides that the program relates to each other disagree, or a side lies outside
            the range that the exporter found.
    """
    values: dict[Any, int] = {}
    for name, expression, size in sorted(_symbolic(program, inputs), key=lambda item: not item[1].is_symbol):
        if expression.is_symbol:
            expected = values.setdefault(expression, size)
            allowed = program.range_constraints.get(expression)
            least = allowed.lower if allowed is not None and allowed.lower > _FROM_ONE else 0
            if allowed is not None and not least <= size <= allowed.upper:
                text = f"of {least} or more" if allowed.upper == int_oo else f"from {least} to {allowed.upper}"
                raise CaptureError(f"the program was exported for a side of {name} {text}, but got {size}")
        else:
            expected = int(expression.subs(values))
        if expected != size:
            raise CaptureError(f"the program was exported for a side of {name} of {expected} here, but got {size}")


def _symbolic(program: ExportedProgram, inputs: Sequence[Tensor]) -> Iterator[tuple[str, Any, int]]:
    """Yield the input's name, the expression and the actual size of every symbolic side."""
    for node, tensor in zip(tensor_inputs(program), inputs, strict=True):
        for side, size in zip(node.meta["val"].shape, tensor.shape, strict=True):
            if isinstance(side, torch.SymInt):
                yield node.name, side.node.expr, int(size)


def at_sizes(program: ExportedProgram, inputs: Sequence[Tensor]) -> ExportedProgram:
    """Return a program specialised to the size of inputs.

    Args:
        program: The program, of fixed or symbolic sizes.
        inputs: Tensors that fit it.

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
                values[node] = _placeholder_value(node, sizes)
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


def _placeholder_value(node: fx.Node, sizes: dict[fx.Node, tuple[int, ...]]) -> Any:  # noqa: ANN401 - a tensor, or a constant
    stated = node.meta.get("val")
    if not isinstance(stated, Tensor):
        return stated
    shape = sizes.get(node, tuple(stated.shape))
    return torch.empty(shape, dtype=stated.dtype, device=stated.device)
