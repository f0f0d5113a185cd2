"""Loads exported programs, ``.pt2`` files: checks them, runs them and reads their graphs.

To read a graph, it is run once on fake tensors of the requested size: arithmetic on sizes becomes numbers,
and every value gets its actual shape, whatever the file states.
"""

import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.export.pt2_archive._package import load_pt2
from torch.utils import _pytree as pytree
from torch.utils._sympy.numbers import int_oo

from deeplab_spec.capture.capture import Capture, FileModule, Shape
from deeplab_spec.capture.fx.calls import checks_only, on_device
from deeplab_spec.capture.fx.module import read_program
from deeplab_spec.capture.pt2.archive import FORMAT, SAMPLE_INPUTS, Archive, check_pt2
from deeplab_spec.errors import CaptureError, GraphError, TargetError, one_line

_ONLY_TENSORS: Final = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_STATE: Final = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


class ExportedFile(FileModule):
    """A program of ``torch.export``.

    Inputs must have the sizes that it was exported for. They may have any dtype: the exporter's dtype
    checks are not run.
    """

    kind = "exported program"

    def __init__(self, name: str, program: ExportedProgram) -> None:
        state = {**program.constants, **program.state_dict}
        tensors = {name: tensor.detach() for name, tensor in state.items() if isinstance(tensor, Tensor)}
        super().__init__(name, [_stated_shape(node) for node in _tensor_inputs(program)], tensors)
        self._apply(Tensor.clone)
        self.program = program

    def read(self, inputs: Sequence[Tensor]) -> Capture:
        """Read the graph at the size of inputs.

        Raises:
            CaptureError: If the program was exported for other sizes, or its graph cannot be read.
        """
        self.check_inputs(inputs)
        try:
            return read_program(_at_sizes(self.program, inputs))
        except (CaptureError, GraphError):
            raise
        except Exception as error:  # the framework checks less of a program than it uses
            raise CaptureError(f"its graph cannot be read: {one_line(error)}") from error

    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - what the network returns
        """Run the program with the current weights.

        Raises:
            CaptureError: If the program was exported for other sizes.
        """
        self.check_inputs(inputs)
        device = next((tensor.device for tensor in self.tensors.values()), inputs[0].device)
        results = _Runner(self.program.graph_module, device).run(*self._arguments(inputs))
        specs = self.program.graph_signature.output_specs
        returned = [value for value, spec in zip(results, specs, strict=True) if spec.kind is OutputKind.USER_OUTPUT]
        return pytree.tree_unflatten(returned, self.program.call_spec.out_spec)

    def check_inputs(self, inputs: Sequence[Tensor]) -> None:
        """Reject inputs of another number or size than the program was exported for.

        Raises:
            CaptureError: If an input does not fit.
        """
        super().check_inputs(inputs)
        _check_symbols(self.program, inputs)

    def _arguments(self, inputs: Sequence[Tensor]) -> Iterator[Any]:
        arguments = dict(zip(_tensor_inputs(self.program), inputs, strict=True))
        placed = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        for node, spec in zip(placed, self.program.graph_signature.input_specs, strict=True):
            if spec.kind in _STATE:
                yield self.tensors[spec.target or node.name]
            else:
                yield arguments[node] if node in arguments else node.meta.get("val")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002, ARG002 - the framework's signature
        """Convert the weights; one tensor under two names stays one."""
        converted: dict[tuple[int, tuple[int, ...], tuple[int, ...]], Tensor] = {}
        for name, tensor in self.tensors.items():
            key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
            if key not in converted or not tensor.numel():
                converted[key] = fn(tensor)
            self.tensors[name] = converted[key]
        return self


class _Runner(fx.Interpreter):
    """Runs a program's calls on a device, without the exporter's checks.

    Args:
        module: The program's graph.
        device: The device of its weights, on which calls create their tensors.
    """

    def __init__(self, module: fx.GraphModule, device: torch.device) -> None:
        super().__init__(module)
        self.device = device

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - the framework's signature
        """Make a call."""
        placed = tuple(on_device(argument, self.device) for argument in args)
        return super().call_function(target, placed, {name: on_device(kwargs[name], self.device) for name in kwargs})

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - the value of a call
        return None if checks_only(n) else super().run_node(n)


def read_pt2(path: Path, name: str) -> FileModule:
    """Read an exported program.

    The file is checked first (:func:`deeplab_spec.capture.pt2.archive.check_pt2`). The framework then
    loads an in-memory copy of the checked content; only plain tensors are unpickled.

    Args:
        path: The file.
        name: The target as the user named it.

    Raises:
        TargetError: If it is not an exported program, cannot be read by the installed torch, or would
            execute code.
    """
    archive = check_pt2(path, name)
    try:
        with _only_tensors(), _no_buffer_warning():
            program = load_pt2(_copy(archive)).exported_programs["model"]
    except Exception as error:
        raise TargetError(name, f"torch {torch.__version__} cannot load it: {one_line(error)}") from error
    _check_inputs(program, name)
    try:
        return ExportedFile(name, program)
    except CaptureError as error:
        raise TargetError(name, str(error)) from error


def _check_inputs(program: ExportedProgram, name: str) -> None:
    if not _tensor_inputs(program):
        raise TargetError(name, "the program takes no tensor")
    for spec in program.graph_signature.input_specs:
        if spec.kind not in (*_STATE, InputKind.USER_INPUT):
            raise TargetError(name, f"the program has an input that is not read: {spec.kind.name.lower()}")


def _copy(archive: Archive) -> io.BytesIO:
    """Return the checked content as a new archive."""
    buffer = io.BytesIO()
    texts = {member: json.dumps(text).encode() for member, text in archive.texts.items()}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as copy:
        for member, content in {**FORMAT, SAMPLE_INPUTS: b"", **texts, **archive.payloads}.items():
            copy.writestr(f"package/{member}", content)
    buffer.seek(0)
    return buffer


@contextmanager
def _no_buffer_warning() -> Iterator[None]:
    """Silence a warning of torch 2.11 about read-only weights; they are copied before use."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        yield


@contextmanager
def _only_tensors() -> Iterator[None]:
    """Make the framework refuse every pickle beyond plain tensors."""
    before = os.environ.get(_ONLY_TENSORS)
    os.environ[_ONLY_TENSORS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ONLY_TENSORS]
        else:
            os.environ[_ONLY_TENSORS] = before


_FROM_ONE: Final = 2
"""The lowest bound that an exporter states; as in the framework, it allows any size."""


def _tensor_inputs(program: ExportedProgram) -> tuple[fx.Node, ...]:
    """Return the placeholders of the caller's tensors, in order."""
    names = set(program.graph_signature.user_inputs)
    placed = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return tuple(node for node in placed if isinstance(node.meta.get("val"), Tensor))


def _stated_shape(node: fx.Node) -> Shape:
    """Return the shape of a value; None for a symbolic side."""
    return tuple(side if isinstance(side, int) else None for side in node.meta["val"].shape)


def _check_symbols(program: ExportedProgram, inputs: Sequence[Tensor]) -> None:
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
    for node, tensor in zip(_tensor_inputs(program), inputs, strict=True):
        for side, size in zip(node.meta["val"].shape, tensor.shape, strict=True):
            if isinstance(side, torch.SymInt):
                yield node.name, side.node.expr, int(size)


def _at_sizes(program: ExportedProgram, inputs: Sequence[Tensor]) -> ExportedProgram:
    """Return a program specialised to the size of inputs that fit it.

    Raises:
        CaptureError: If the graph cannot be run at that size.
    """
    sizes = dict(zip(_tensor_inputs(program), (tuple(tensor.shape) for tensor in inputs), strict=True))
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
                copies[node].name = node.name  # the signature names it; a copy of ``input`` would be ``input_1``
                copies[node].meta["val"] = values[node]
    return result


def _placeholder_value(node: fx.Node, sizes: dict[fx.Node, tuple[int, ...]]) -> Any:  # noqa: ANN401 - a tensor, or a constant
    stated = node.meta.get("val")
    if not isinstance(stated, Tensor):
        return stated
    shape = sizes.get(node, tuple(stated.shape))
    return torch.empty(shape, dtype=stated.dtype, device=stated.device)
