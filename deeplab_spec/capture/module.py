"""Captures a module: its graph through ``torch.export``, with aliasing made explicit.

An in-place operation changes a value that others may still read. In the captured network every
reader after it reads the changed value, whatever name it used, so a skip that an in-place ReLU
overwrote shows as a skip that reads the ReLU.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from deeplab_spec.capture.operators import opaque, operator_name, shape_of, translate
from deeplab_spec.errors import CaptureError
from deeplab_spec.graph.network import Network, Node, Source
from deeplab_spec.graph.ops import Input, Op, Output

_SAME_VALUE = frozenset({"clone", "contiguous", "alias", "detach", "lift_fresh_copy", "_to_copy", "to"})
"""Operators that give back the value they got, when the dtype stays."""

_WHOLE_ALIAS = frozenset(
    {"contiguous", "alias", "detach", "to", "dropout", "feature_dropout", "dropout_", "lift_fresh_copy"}
)
"""Operators that may give back the very tensor they got."""

_NO_VALUE = frozenset(
    {"_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range_for_size", "sym_size"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A module's graph, and what is needed to run it step by step.

    Attributes:
        network: The graph, at the size that it was captured with.
        shapes: Shape of every value by path; empty for what is no tensor.
        parameters: Names in the module's state, by path and role.
        calls: The framework call that a node stands for, by path.
        constants: Tensors of the program that are not in the module's state, by name.
    """

    network: Network
    shapes: Mapping[str, tuple[int, ...]]
    parameters: Mapping[str, str]
    calls: Mapping[str, "_Call"]
    constants: Mapping[str, Tensor]

    def step(self, path: str, inputs: Sequence[Tensor], state: Mapping[str, Tensor]) -> Tensor:
        """Run the captured call of one node on given values.

        Args:
            path: The node; not an input or output.
            inputs: Its inputs' values, in order.
            state: The module's parameters and buffers by name.

        Returns:
            The node's value. The inputs are not changed.
        """
        call = self.calls[path]

        def value(argument: fx.Node) -> Any:  # noqa: ANN401 - an operator's argument
            if argument in call.reads:
                return inputs[call.reads[argument]]
            name = call.state[argument]
            return state[name] if name in state else self.constants[name]

        arguments: list[Any] = list(fx.map_arg(call.node.args, value))
        if call.in_place:
            arguments[0] = arguments[0].clone()
        function: Callable[..., Any] = call.node.target  # type: ignore[assignment]  # a call_function node
        result: Tensor = function(*arguments, **fx.map_arg(call.node.kwargs, value))
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """How to repeat a framework call.

    Attributes:
        node: The call.
        reads: Position among the node's inputs, by argument.
        state: Name in the state, by argument.
        in_place: Whether the call overwrites its first argument.
    """

    node: fx.Node
    reads: Mapping[fx.Node, int]
    state: Mapping[fx.Node, str]
    in_place: bool


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer by name, also those that are not saved."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach() for name, tensor in named}


def shared_parameters(module: nn.Module, captured: "Capture") -> Iterator[str]:
    """Return the nodes all of whose parameters belong to a node before them too."""
    pointers = {name: tensor.data_ptr() for name, tensor in state_of(module).items()}
    seen: set[int] = set()
    for path, names in groupby(captured.parameters.items(), key=lambda item: item[0].rpartition(".")[0]):
        mine = {pointers.get(name, 0) for _, name in names} - {0}
        if mine and mine <= seen:
            yield path
        seen |= mine


def capture(module: nn.Module, inputs: Sequence[Tensor]) -> Capture:
    """Read the graph of a module in evaluation.

    Args:
        module: The implementation.
        inputs: Its arguments, of the size that it is captured with.

    Returns:
        The graph, with an output for every tensor that the module returns, named as it is reached
        in the result: ``""``, ``[0]``, ``['out']``.

    Raises:
        CaptureError: If the module cannot be exported; the reason is the exporter's first line.
    """
    try:
        with torch.no_grad(), _no_stack_traces():
            program = torch.export.export(module.eval(), tuple(inputs), strict=False)
    except Exception as error:
        raise CaptureError(f"torch.export refused the module: {_first_line(error)}") from error
    try:
        return _Reader(program).read()
    except _PartialAliasError:
        try:
            program = program.run_decompositions({})
        except Exception as error:
            raise CaptureError(f"in-place operations on views cannot be resolved: {_first_line(error)}") from error
        return _Reader(program).read()


@contextmanager
def _no_stack_traces() -> Iterator[None]:
    """Spare the exporter writing down where in the source each call was made: a sixth of its time, read by nobody."""
    before = fx.config.do_not_emit_stack_traces
    fx.config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        fx.config.do_not_emit_stack_traces = before


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


class _PartialAliasError(Exception):
    """A value is overwritten through a view of it."""


class _Reader:
    """Reads one exported program, in the order of its calls."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.parameters: dict[str, str] = {}
        self.calls: dict[str, _Call] = {}
        self.state: dict[fx.Node, str] = {}
        self.current: dict[fx.Node, str] = {}
        self.storage: dict[fx.Node, fx.Node] = {}
        self.viewed: set[fx.Node] = set()
        self.taken: Counter[str] = Counter()

    def read(self) -> Capture:
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "call_function" and operator_name(node) not in _NO_VALUE:
                self._call(node)
            elif node.op == "get_attr":
                raise CaptureError(f"the graph holds a nested program at {node.name}")
        self._outputs()
        return Capture(
            network=Network(nodes=tuple(self.nodes)),
            shapes=self.shapes,
            parameters=self.parameters,
            calls=self.calls,
            constants=dict(self.program.constants),
        )

    def _placeholder(self, node: fx.Node) -> None:
        for spec in self.program.graph_signature.input_specs:
            if getattr(spec.arg, "name", None) != node.name:
                continue
            self.storage[node] = node
            if spec.kind is InputKind.USER_INPUT:
                shape = shape_of(node)
                if shape:
                    path = self._unique("input")
                    self._add(node, path, Input(channels=shape[1] if len(shape) > 1 else 1), ())
            else:
                self.state[node] = spec.target or node.name

    def _call(self, node: fx.Node) -> None:
        name = operator_name(node)
        tensors = [argument for argument in node.all_input_nodes if argument in self.current]
        in_place = _overwrites(node)
        first = tensors[0] if tensors else None
        if first is not None and not in_place and _keeps_value(node, first, name):
            self.current[node] = self.current[first]
            self.storage[node] = self.storage[first] if name in _WHOLE_ALIAS else node
            return
        translation = translate(node)
        op: Op = opaque(node)
        inputs: tuple[fx.Node, ...] = tuple(tensors)
        if translation and all(argument in self.current for argument in translation.inputs):
            if all(tensor in self.state for _, tensor in translation.roles):
                op, inputs = translation.op, translation.inputs
            else:
                translation = None
        path = self._path(node, name)
        if translation:
            self.parameters |= {f"{path}.{role}": self.state[tensor] for role, tensor in translation.roles}
        reads = {argument: number for number, argument in enumerate(inputs)}
        self.calls[path] = _Call(node=node, reads=reads, state=self.state, in_place=in_place)
        self._add(node, path, op, tuple(self.current[argument] for argument in inputs), _place(node))
        self._alias(node, first, name, in_place=in_place)

    def _alias(self, node: fx.Node, first: fx.Node | None, name: str, *, in_place: bool) -> None:
        if first is None:
            self.storage[node] = node
        elif in_place:
            owner = self.storage[first]
            if owner in self.viewed:
                raise _PartialAliasError
            self.storage[node] = owner
            for other, storage in self.storage.items():
                if storage is owner and other in self.current:
                    self.current[other] = self.current[node]
        elif name in _WHOLE_ALIAS:
            self.storage[node] = self.storage[first]
        elif _is_view(node):
            self.storage[node] = self.storage[first]
            self.viewed.add(self.storage[first])
        else:
            self.storage[node] = node

    def _add(self, node: fx.Node, path: str, op: Op, inputs: tuple[str, ...], source: Source | None = None) -> None:
        self.nodes.append(Node(path=path, op=op, inputs=inputs, source=source))
        self.shapes[path] = shape_of(node)
        self.current[node] = path

    def _outputs(self) -> None:
        results = next(iter(reversed(self.program.graph.nodes))).args[0]
        specs = self.program.graph_signature.output_specs
        returned: list[Any] = [
            result for result, spec in zip(results, specs, strict=True) if spec.kind is OutputKind.USER_OUTPUT
        ]
        tree = pytree.tree_unflatten(returned, self.program.call_spec.out_spec)
        for keys, value in pytree.tree_flatten_with_path(tree)[0]:
            if isinstance(value, fx.Node) and value in self.current:
                name = "".join(map(str, keys))
                path = self._unique(f"output{name}")
                producer = self.current[value]
                self.nodes.append(Node(path=path, op=Output(name=name), inputs=(producer,)))
                self.shapes[path] = self.shapes[producer]

    def _path(self, node: fx.Node, name: str) -> str:
        """Name a call as the module that makes it; a call of no leaf module by its operator too."""
        stack: Iterable[tuple[str, Any]] = (node.meta.get("nn_module_stack") or {}).values()
        module, kind = next(iter(reversed(tuple(stack))), ("", ""))
        leaf = str(kind).startswith("torch.nn.modules.") and "container" not in str(kind)
        return self._unique(module if leaf and module else f"{module}.{name.strip('_')}".strip("."))

    def _unique(self, path: str) -> str:
        self.taken[path] += 1
        return path if self.taken[path] == 1 else f"{path}#{self.taken[path]}"


def _place(node: fx.Node) -> Source | None:
    stack = tuple((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return None
    module, kind = stack[-1]
    return Source(work=str(kind), place=str(module) or "the module itself")


def _overwrites(node: fx.Node) -> bool:
    if not isinstance(node.target, OpOverload):
        return False
    arguments = node.target._schema.arguments  # noqa: SLF001 - the operator's only description
    return bool(arguments) and arguments[0].alias_info is not None and arguments[0].alias_info.is_write


def _is_view(node: fx.Node) -> bool:
    if not isinstance(node.target, OpOverload):
        return True  # an element of a list of views
    returned = node.target._schema.returns  # noqa: SLF001 - the operator's only description
    return any(value.alias_info is not None for value in returned)


def _keeps_value(node: fx.Node, first: fx.Node, name: str) -> bool:
    if name == "getitem":
        return operator_name(first) == "_native_batch_norm_legit_no_training" and node.args[1:] == (0,)
    if name not in _SAME_VALUE:
        return False
    return bool(node.meta["val"].dtype == first.meta["val"].dtype)
