"""Reads the graph of an exported program, with aliasing made explicit.

An in-place operation changes a value that others may still read. In the captured network every
reader after it reads the changed value, whatever name it used, so a skip that an in-place ReLU
overwrote shows as a skip that reads the ReLU.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from deeplab_spec.capture.operators import opaque, operator_name, shape_of, translate
from deeplab_spec.capture.record import Capture
from deeplab_spec.errors import CaptureError
from deeplab_spec.graph.network import Network, Node, Source
from deeplab_spec.graph.ops import Input, Op, Output

_SAME_VALUE = frozenset({"clone", "contiguous", "alias", "detach", "lift_fresh_copy", "_to_copy", "to"})
"""Operators that give back the value they got, when the dtype stays."""

_WHOLE_ALIAS = frozenset(
    {"contiguous", "alias", "detach", "to", "dropout", "feature_dropout", "dropout_", "lift_fresh_copy"}
)
"""Operators that may give back the very tensor they got."""

_FIRST_OF_MANY = frozenset({"_native_batch_norm_legit_no_training", "max_pool2d_with_indices"})
"""Operators that return what is asked for first, and more that only training needs."""

_CHECKS = frozenset(
    {
        *("_assert_tensor_metadata", "_assert_scalar", "_assert_async"),
        *("sym_constrain_range", "sym_constrain_range_for_size"),
    }
)
"""Operators that an exporter writes into a graph to check what it assumed."""

_NO_VALUE = _CHECKS | {"sym_size"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramCall:
    """Repeats a framework call.

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

    def __call__(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """Make the call on given values."""

        def value(argument: fx.Node) -> Any:  # noqa: ANN401 - an operator's argument
            return inputs[self.reads[argument]] if argument in self.reads else tensors[self.state[argument]]

        arguments: list[Any] = list(fx.map_arg(self.node.args, value))
        if self.in_place:
            arguments[0] = arguments[0].clone()
        function: Callable[..., Any] = self.node.target  # type: ignore[assignment]  # a call_function node
        result: Any = function(*arguments, **fx.map_arg(self.node.kwargs, value))
        return result[0] if _first_alone(self.node) else result  # type: ignore[no-any-return]  # what the operator gives


class PartialAliasError(Exception):
    """A value is overwritten through a view of it."""


class ProgramReader:
    """Reads one exported program, in the order of its calls."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.parameters: dict[str, str] = {}
        self.steps: dict[str, ProgramCall] = {}
        self.state: dict[fx.Node, str] = {}
        self.current: dict[fx.Node, str] = {}
        self.storage: dict[fx.Node, fx.Node] = {}
        self.viewed: set[fx.Node] = set()
        self.taken: Counter[str] = Counter()

    def read(self) -> Capture:
        """Read the graph.

        Raises:
            CaptureError: If it holds a nested program.
            PartialAliasError: If a value is overwritten through a view of it.
        """
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
            steps=self.steps,
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
        if name == "getitem" and not node.users and _first_alone(node.all_input_nodes[0]):
            return
        tensors = [argument for argument in node.all_input_nodes if argument in self.current]
        in_place = _overwrites(node)
        first = tensors[0] if tensors else None
        if first is not None and not in_place and _keeps_value(node, first, name):
            self.current[node] = self.current[first]
            self.storage[node] = self.storage[first] if name in _WHOLE_ALIAS else node
            return
        translation = translate(node) if name not in _FIRST_OF_MANY or _first_alone(node) else None
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
        self.steps[path] = ProgramCall(node=node, reads=reads, state=self.state, in_place=in_place)
        self._add(node, path, op, tuple(self.current[argument] for argument in inputs), _place(node))
        self._alias(node, first, name, in_place=in_place)

    def _alias(self, node: fx.Node, first: fx.Node | None, name: str, *, in_place: bool) -> None:
        if first is None:
            self.storage[node] = node
        elif in_place:
            owner = self.storage[first]
            if owner in self.viewed:
                raise PartialAliasError
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


def checks_only(node: fx.Node) -> bool:
    """Tell whether a call computes nothing, and only checks what an exporter assumed."""
    return node.op == "call_function" and operator_name(node) in _CHECKS


def _first_alone(node: fx.Node) -> bool:
    """Tell whether only the first of an operator's results is used."""
    if operator_name(node) not in _FIRST_OF_MANY:
        return False
    return all(operator_name(user) == "getitem" and (user.args[1] == 0 or not user.users) for user in node.users)


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
        return _first_alone(first) and node.args[1:] == (0,)
    if name not in _SAME_VALUE:
        return False
    return bool(node.meta["val"].dtype == first.meta["val"].dtype)
