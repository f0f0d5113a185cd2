"""Reads the graph of an exported program, with aliasing made explicit.

An in-place operation changes a value that others may still read. In the captured network every
reader after it reads the changed value, whatever name it used, so a skip that an in-place ReLU
overwrote shows as a skip that reads the ReLU.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import fx
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from deeplab_spec.capture.capture import Capture, Step
from deeplab_spec.capture.fx.calls import FIRST_RESULT_ONLY, Placement, ProgramCall, only_first_used, overwrites
from deeplab_spec.capture.fx.data_movement import move, part_of_channels
from deeplab_spec.capture.fx.equivalent_calls import fuse_into_convolution
from deeplab_spec.capture.fx.layout import Arguments, Layout, identity_layout
from deeplab_spec.capture.fx.layout_change import translate_with_layouts
from deeplab_spec.capture.fx.operators import Translation, opaque, operator_name, shape_of, translate
from deeplab_spec.errors import CaptureError
from deeplab_spec.graph.network import Network, Node, Source
from deeplab_spec.graph.ops import Conv2d, Input, Op, Opaque, Output

_SAME_VALUE = frozenset({"clone", "contiguous", "alias", "detach", "lift_fresh_copy", "_to_copy", "to"})
"""Operators that give back the value they got, when the dtype stays."""

_WHOLE_ALIAS = frozenset(
    {"contiguous", "alias", "detach", "to", "dropout", "feature_dropout", "dropout_", "lift_fresh_copy"}
)
"""Operators that may give back the very tensor they got."""

_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1}
"""What changes nothing, by operator, as the second operand."""

_CHECKS = frozenset(
    {
        *("_assert_tensor_metadata", "_assert_scalar", "_assert_async"),
        *("sym_constrain_range", "sym_constrain_range_for_size"),
    }
)
"""Operators that an exporter writes into a graph to check what it assumed."""

_NO_VALUE = _CHECKS | {"sym_size"}


class PartialAliasError(Exception):
    """A value is overwritten through a view of it."""


class ProgramReader:
    """Reads one exported program, in the order of its calls."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.parameters: dict[str, str] = {}
        self.views: dict[str, Layout] = {}
        self.steps: dict[str, Step] = {}
        self.state: dict[fx.Node, str] = {}
        self.tensors: dict[fx.Node, Layout] = {}
        self.names: dict[fx.Node, str] = {}
        self.current: dict[fx.Node, str] = {}
        self.bases: dict[fx.Node, tuple[str, Layout]] = {}
        self.makers: dict[str, fx.Node] = {}
        self.passing: set[str] = set()
        self.storage: dict[fx.Node, fx.Node] = {}
        self.viewed: set[fx.Node] = set()
        self.taken: Counter[str] = Counter()
        self.arguments = Arguments(value=self._layout, tensors=self.tensors)

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
        self._take_out_unread()
        return Capture(
            network=Network(nodes=tuple(self.nodes.values())),
            shapes=self.shapes,
            parameters=self.parameters,
            steps=self.steps,
            constants=dict(self.program.constants),
            views=self.views,
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
                self.state[node] = self.names[node] = spec.target or node.name
                self.tensors[node] = identity_layout(shape_of(node))

    def _call(self, node: fx.Node) -> None:
        name = operator_name(node)
        if name == "getitem" and not node.users and only_first_used(node.all_input_nodes[0]):
            return
        values = [argument for argument in node.all_input_nodes if argument in self.current]
        if not values and self._reads_tensor(node, name):
            return
        if self._takes_channels(node):
            return
        in_place = overwrites(node)
        first = values[0] if values else None
        if first is not None and not in_place and _keeps_value(node, first, name):
            self._same(node, first)
            self.storage[node] = self.storage[first] if name in _WHOLE_ALIAS else node
            return
        if first is not None and self._moves(node, first):
            self._alias(node, first, name, in_place=False)
            return
        if first is None or not self._absorbs(node, first):
            self._record(node, values)
        self._alias(node, first, name, in_place=in_place)

    def _reads_tensor(self, node: fx.Node, name: str) -> bool:
        """Take note of a parameter or buffer whose elements a call brings into another order."""
        first = next(iter(node.all_input_nodes), None)
        if first not in self.tensors or node.args[:1] != (first,):
            return False
        layout = self.tensors[first]
        moved = layout if _keeps_value(node, first, name) else move(node, layout)
        if moved is None:
            return False
        self.tensors[node], self.names[node] = moved, self.names[first]
        return True

    def _moves(self, node: fx.Node, first: fx.Node) -> bool:
        """Read a call that brings the elements of a value into another order."""
        path, layout = self._base(first)
        moved = move(node, layout) if node.args[:1] == (first,) else None
        if moved is None:
            return False
        if moved.identity:
            self.current[node] = path
        else:
            self._keep(node, [first])
            self.passing.add(self.current[node])
            self.bases[node] = (path, moved)
        return True

    def _takes_channels(self, node: fx.Node) -> bool:
        """Read a call that takes a range of the channels of a value, which nothing overwrites."""
        source, op = part_of_channels(node) or (None, None)
        if source is None or op is None or source not in self.current or not self._base(source)[1].identity:
            return False
        if shape_of(source) == shape_of(node):
            return False
        path = self._path(node, op.target)
        self.steps[path] = ProgramCall(node=node, reads={source: 0}, state=self.state, layouts={}, result=None)
        self._add(node, path, op, (self.current[source],), _place(node))
        self._alias(node, source, op.target, in_place=False)
        self.passing |= {self.current[list_] for list_ in node.all_input_nodes if list_ is not source}
        return True

    def _absorbs(self, node: fx.Node, first: fx.Node) -> bool:
        """Read a call that a convolution before it takes in."""
        path, _ = self._base(first)
        conv = self.nodes[path]
        if not isinstance(conv.op, Conv2d) or not self._read_once(first, self.makers[path]):
            return False
        translation = fuse_into_convolution(node, first, conv.op, self.arguments)
        if translation is None or not self._knows(translation):
            return False
        step = self.steps[path]
        if not isinstance(step, ProgramCall):
            return False
        del self.nodes[path]
        self._put(node, path, translation, conv.inputs, step.reads, step.layouts)
        return True

    def _read_once(self, value: fx.Node, maker: fx.Node) -> bool:
        """Tell whether one call after the other reads a value, from the call that made it on."""
        while True:
            readers = [reader for reader in value.users if operator_name(reader) not in _NO_VALUE]
            if len(readers) != 1:
                return False
            if value is maker:
                return True
            if not value.all_input_nodes:
                return False
            value = value.all_input_nodes[0]

    def _record(self, node: fx.Node, values: Sequence[fx.Node]) -> None:
        """Read a call by what it means, in whatever order its arguments are; else keep it as it is."""
        relaid = any(value in self.bases for value in values)
        for read in (True, False) if relaid else (False, True):
            translation = translate_with_layouts(node, self.arguments) if read else _translate(node)
            if translation and self._knows(translation):
                break
        else:
            self._keep(node, values)
            return
        inputs = translation.inputs
        path = self._path(node, operator_name(node))
        layouts = {}
        if translation.result is not None:
            layouts = {value: layout for value in inputs if not (layout := self._base(value)[1]).identity}
        read_paths = tuple(self._base(value)[0] if layouts else self.current[value] for value in inputs)
        self._put(node, path, translation, read_paths, {value: number for number, value in enumerate(inputs)}, layouts)

    def _put(
        self,
        node: fx.Node,
        path: str,
        translation: Translation,
        inputs: tuple[str, ...],
        reads: Mapping[fx.Node, int],
        layouts: Mapping[fx.Node, Layout],
    ) -> None:
        """Add what a call means, and the order in which the call itself has the elements of its value."""
        result = translation.result
        moved = None if result is None or result.identity else result
        self.steps[path] = ProgramCall(node=node, reads=reads, state=self.state, layouts=layouts, result=moved)
        for role, tensor in translation.roles:
            self.parameters[f"{path}.{role}"] = self.names[tensor]
            view = translation.views.get(role, self.tensors[tensor])
            if not view.identity:
                self.views[f"{path}.{role}"] = view
        self._add(node, path, translation.op, inputs, _place(node))
        self.makers[path] = node
        if moved:
            self.shapes[path] = moved.base
            self._put_in_order(node, path, moved)

    def _put_in_order(self, node: fx.Node, path: str, layout: Layout) -> None:
        """Add a value in the order in which its own call has it, for who reads it like that."""
        order = self._unique(f"{path}.order")
        self.steps[order] = Placement(layout)
        self._add(node, order, Opaque(target="order", detail=str(layout)), (path,), _place(node))
        self.passing.add(order)
        self.bases[node] = (path, layout)

    def _keep(self, node: fx.Node, values: Sequence[fx.Node]) -> None:
        """Add a call as it is."""
        path = self._path(node, operator_name(node))
        reads = {value: number for number, value in enumerate(values)}
        self.steps[path] = ProgramCall(node=node, reads=reads, state=self.state, layouts={}, result=None)
        self._add(node, path, opaque(node), tuple(self.current[value] for value in values), _place(node))

    def _base(self, value: fx.Node) -> tuple[str, Layout]:
        """Return what a value is an order of, and which."""
        return self.bases.get(value) or (self.current[value], identity_layout(self.shapes[self.current[value]]))

    def _layout(self, value: fx.Node) -> Layout | None:
        return self._base(value)[1] if value in self.current else None

    def _knows(self, translation: Translation) -> bool:
        """Tell whether a call reads values and tensors where its meaning has them."""
        values = all(argument in self.current for argument in translation.inputs)
        tensors = (translation.views.get(role, self.tensors.get(tensor)) for role, tensor in translation.roles)
        return values and all(tensor is not None and tensor.strided for tensor in tensors)

    def _same(self, node: fx.Node, first: fx.Node) -> None:
        self.current[node] = self.current[first]
        self.bases.pop(node, None)
        if first in self.bases:
            self.bases[node] = self.bases[first]

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
                    self._same(other, node)
        elif name in _WHOLE_ALIAS:
            self.storage[node] = self.storage[first]
        elif _is_view(node):
            self.storage[node] = self.storage[first]
            self.viewed.add(self.storage[first])
        else:
            self.storage[node] = node

    def _add(self, node: fx.Node, path: str, op: Op, inputs: tuple[str, ...], source: Source | None = None) -> None:
        self.nodes[path] = Node(path=path, op=op, inputs=inputs, source=source)
        self.shapes[path] = shape_of(node)
        self.current[node] = path

    def _take_out_unread(self) -> None:
        """Take out the values in another order that nothing reads."""
        readers = Counter(path for node in self.nodes.values() for path in node.inputs)
        for node in reversed(list(self.nodes.values())):
            if node.path in self.passing and not readers[node.path]:
                readers.subtract(node.inputs)
                del self.nodes[node.path], self.shapes[node.path], self.steps[node.path]

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
                self.nodes[path] = Node(path=path, op=Output(name=name), inputs=(producer,))
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


def _translate(node: fx.Node) -> Translation | None:
    """Return what a call means, unless more of it is used than its first result."""
    return None if operator_name(node) in FIRST_RESULT_ONLY and not only_first_used(node) else translate(node)


def _place(node: fx.Node) -> Source | None:
    stack = tuple((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return None
    module, kind = stack[-1]
    return Source(work=str(kind), place=str(module) or "the module itself")


def _is_view(node: fx.Node) -> bool:
    if not isinstance(node.target, OpOverload):
        return True  # an element of a list of views
    returned = node.target._schema.returns  # noqa: SLF001 - the operator's only description
    return any(value.alias_info is not None for value in returned)


def _keeps_value(node: fx.Node, first: fx.Node, name: str) -> bool:
    if name == "getitem":
        return only_first_used(first) and node.args[1:] == (0,)
    if name not in _SAME_VALUE and not _is_neutral(node, first, name):
        return False
    before, after = first.meta["val"], node.meta["val"]
    return bool(before.dtype == after.dtype and before.shape == after.shape)


def _is_neutral(node: fx.Node, first: fx.Node, name: str) -> bool:
    """Tell whether a call adds zero, multiplies by one, or joins a single value."""
    if name in {"cat", "concat"}:
        return node.args[0] == [first]
    neutral = _NEUTRAL.get(name)
    return neutral is not None and node.args == (first, neutral) and not node.kwargs
