"""Reads the graph of a program, with aliasing made explicit.

An in-place operation changes a value that others may still read. In the captured network every later
consumer reads the changed value, whatever name it uses: a skip that an in-place ReLU overwrote shows as
a skip that reads the ReLU.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import fx

from deeplab_spec.capture.capture import Capture, Step
from deeplab_spec.capture.equivalences.norms import merge_norm_arithmetic, move_crops_earlier
from deeplab_spec.capture.fx.calls import (
    FIRST_RESULT_ONLY,
    NO_VALUE,
    WHOLE_ALIAS,
    ProgramCall,
    Translation,
    is_view,
    keeps_value,
    only_first_used,
    opaque,
    operator_name,
    overwrites,
    shape_of,
)
from deeplab_spec.capture.fx.document import Program
from deeplab_spec.capture.fx.equivalent_calls import fuse_into_convolution
from deeplab_spec.capture.fx.layout import Arguments, Layout, identity_layout
from deeplab_spec.capture.fx.layout_change import move, part_of_channels, translate_with_layouts
from deeplab_spec.capture.fx.operators import translate
from deeplab_spec.errors import printable
from deeplab_spec.graph.network import Network, Node, Source
from deeplab_spec.graph.ops import Conv2d, Input, Op, Opaque, Output


class PartialAliasError(Exception):
    """A value is overwritten through a view of it; a decomposed program has no such calls."""


def read_program(program: Program) -> Capture:
    """Read the graph of a program.

    Raises:
        PartialAliasError: If a value is overwritten through a view of it.
    """
    return move_crops_earlier(merge_norm_arithmetic(ProgramReader(program).read()))


class ProgramReader:
    """Reads one program, in the order of its calls."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.parameters: dict[str, str] = {}
        self.views: dict[str, Layout] = {}
        self.steps: dict[str, Step] = {}
        self.state: dict[fx.Node, str] = {}
        self.tensors: dict[fx.Node, Layout] = {}  # layouts of parameters and buffers
        self.names: dict[fx.Node, str] = {}  # their names in the state
        self.current: dict[fx.Node, str] = {}  # the path that holds a value now
        self.bases: dict[fx.Node, tuple[str, Layout]] = {}  # the base of a value that is reordered
        self.producers: dict[str, fx.Node] = {}
        self.removable: set[str] = set()  # paths that are removed if they have no consumer
        self.storage: dict[fx.Node, fx.Node] = {}  # the value that owns the memory
        self.viewed: set[fx.Node] = set()  # owners of which a view exists
        self.path_counts: Counter[str] = Counter()
        self.arguments = Arguments(value=self._layout, tensors=self.tensors)

    def read(self) -> Capture:
        """Read the graph."""
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._read_placeholder(node)
            elif node.op == "call_function" and operator_name(node) not in NO_VALUE:
                self._read_call(node)
        self._add_outputs()
        self._remove_unread()
        return Capture(
            network=Network(nodes=tuple(self.nodes.values())),
            shapes=self.shapes,
            parameters=self.parameters,
            steps=self.steps,
            constants=dict(self.program.constants),
            views=self.views,
        )

    def _read_placeholder(self, node: fx.Node) -> None:
        self.storage[node] = node
        name = self.program.inputs[node]
        if name is None:
            shape = shape_of(node)
            self._add(node, self._unique("input"), Input(channels=shape[1] if len(shape) > 1 else 1), ())
        else:
            self.state[node] = self.names[node] = name
            self.tensors[node] = identity_layout(shape_of(node))

    def _read_call(self, node: fx.Node) -> None:
        name = operator_name(node)
        if name == "getitem" and not node.users and only_first_used(node.all_input_nodes[0]):
            return
        values = [argument for argument in node.all_input_nodes if argument in self.current]
        first = values[0] if values else None
        if first is None and self._read_tensor(node):
            return
        if self._read_channel_range(node):
            return
        in_place = overwrites(node)
        if first is not None and not in_place and keeps_value(node, first):
            self._assign(node, first)
            self.storage[node] = self.storage[first] if name in WHOLE_ALIAS else node
            return
        if first is not None and self._read_move(node, first):
            self._alias(node, first, name, in_place=False)
            return
        if first is None or not self._fuse(node, first):
            self._translate(node, values)
        self._alias(node, first, name, in_place=in_place)

    def _read_tensor(self, node: fx.Node) -> bool:
        """Read a call that reorders a parameter or buffer."""
        first = next(iter(node.all_input_nodes), None)
        if first not in self.tensors or node.args[:1] != (first,):
            return False
        layout = self.tensors[first]
        moved = layout if keeps_value(node, first) else move(node, layout)
        if moved is None:
            return False
        self.tensors[node], self.names[node] = moved, self.names[first]
        return True

    def _read_move(self, node: fx.Node, first: fx.Node) -> bool:
        """Read a call that reorders a value."""
        path, layout = self._base(first)
        moved = move(node, layout) if node.args[:1] == (first,) else None
        if moved is None:
            return False
        if moved.identity:
            self.current[node] = path
        else:
            self._add_opaque(node, [first])
            self.removable.add(self.current[node])
            self.bases[node] = (path, moved)
        return True

    def _read_channel_range(self, node: fx.Node) -> bool:
        """Read a call that takes a range of the channels of a value; such a value is never overwritten."""
        source, op = part_of_channels(node) or (None, None)
        if source is None or op is None or source not in self.current or not self._base(source)[1].identity:
            return False
        if shape_of(source) == shape_of(node):
            return False
        path = self._path(node, op.target)
        self.steps[path] = ProgramCall(node=node, reads={source: 0}, state=self.state, layouts={}, result=None)
        self._add(node, path, op, (self.current[source],), _source(node))
        self._alias(node, source, op.target, in_place=False)
        self.removable |= {self.current[split] for split in node.all_input_nodes if split is not source}
        return True

    def _fuse(self, node: fx.Node, first: fx.Node) -> bool:
        """Fuse a call into the convolution before it, if it is a bias or a crop."""
        path, _ = self._base(first)
        conv = self.nodes[path]
        if not isinstance(conv.op, Conv2d) or not self._single_consumer(first, self.producers[path]):
            return False
        translation = fuse_into_convolution(node, first, conv.op, self.arguments)
        if translation is None or not self._available(translation):
            return False
        step = self.steps[path]
        if not isinstance(step, ProgramCall):
            return False
        del self.nodes[path]
        self._add_translation(node, path, translation, conv.inputs, step.reads, step.layouts)
        return True

    def _single_consumer(self, value: fx.Node, producer: fx.Node) -> bool:
        """Tell whether every value from a producer to this one has one consumer."""
        while True:
            readers = [reader for reader in value.users if operator_name(reader) not in NO_VALUE]
            if len(readers) != 1:
                return False
            if value is producer:
                return True
            if not value.all_input_nodes:
                return False
            value = value.all_input_nodes[0]

    def _translate(self, node: fx.Node, values: Sequence[fx.Node]) -> None:
        """Add the operation of a call, in whatever order its arguments are; opaque if no rule knows it."""
        reordered = any(value in self.bases for value in values)
        for with_layouts in (True, False) if reordered else (False, True):
            translation = translate_with_layouts(node, self.arguments) if with_layouts else _translate(node)
            if translation and self._available(translation):
                break
        else:
            self._add_opaque(node, values)
            return
        inputs = translation.inputs
        layouts = {}
        if translation.result is not None:
            layouts = {value: layout for value in inputs if not (layout := self._base(value)[1]).identity}
        paths = tuple(self._base(value)[0] if layouts else self.current[value] for value in inputs)
        reads = {value: number for number, value in enumerate(inputs)}
        self._add_translation(node, self._path(node, operator_name(node)), translation, paths, reads, layouts)

    def _add_translation(
        self,
        node: fx.Node,
        path: str,
        translation: Translation,
        inputs: tuple[str, ...],
        reads: Mapping[fx.Node, int],
        layouts: Mapping[fx.Node, Layout],
    ) -> None:
        """Add the operation of a call, and a reordering if the call's own result is in another order."""
        result = translation.result
        moved = None if result is None or result.identity else result
        self.steps[path] = ProgramCall(node=node, reads=reads, state=self.state, layouts=layouts, result=moved)
        for role, tensor in translation.roles:
            self.parameters[f"{path}.{role}"] = self.names[tensor]
            view = translation.views.get(role, self.tensors[tensor])
            if not view.identity:
                self.views[f"{path}.{role}"] = view
        self._add(node, path, translation.op, inputs, _source(node))
        self.producers[path] = node
        if moved:
            self.shapes[path] = moved.base
            self._add_reordering(node, path, moved)

    def _add_reordering(self, node: fx.Node, path: str, layout: Layout) -> None:
        """Add a value in the order of its own call, for consumers that read it in that order."""
        order = self._unique(f"{path}.order")
        self.steps[order] = lambda inputs, _: layout.place(inputs[0])
        self._add(node, order, Opaque(target="order", detail=str(layout)), (path,), _source(node))
        self.removable.add(order)
        self.bases[node] = (path, layout)

    def _add_opaque(self, node: fx.Node, values: Sequence[fx.Node]) -> None:
        """Add a call as an opaque node."""
        path = self._path(node, operator_name(node))
        reads = {value: number for number, value in enumerate(values)}
        self.steps[path] = ProgramCall(node=node, reads=reads, state=self.state, layouts={}, result=None)
        self._add(node, path, opaque(node), tuple(self.current[value] for value in values), _source(node))

    def _base(self, value: fx.Node) -> tuple[str, Layout]:
        """Return the base of a value, and the value's layout."""
        return self.bases.get(value) or (self.current[value], identity_layout(self.shapes[self.current[value]]))

    def _layout(self, value: fx.Node) -> Layout | None:
        return self._base(value)[1] if value in self.current else None

    def _available(self, translation: Translation) -> bool:
        """Tell whether every input is a value of the network, and every tensor a view of the state."""
        values = all(argument in self.current for argument in translation.inputs)
        tensors = (translation.views.get(role, self.tensors.get(tensor)) for role, tensor in translation.roles)
        return values and all(tensor is not None and tensor.strided for tensor in tensors)

    def _assign(self, node: fx.Node, first: fx.Node) -> None:
        """Let a call stand for the value of another."""
        self.current[node] = self.current[first]
        self.bases.pop(node, None)
        if first in self.bases:
            self.bases[node] = self.bases[first]

    def _alias(self, node: fx.Node, first: fx.Node | None, name: str, *, in_place: bool) -> None:
        """Note which memory a call's result uses; after an in-place call, every alias has the new value."""
        self.storage[node] = node
        if first is None:
            return
        owner = self.storage[first]
        if in_place:
            if owner in self.viewed:
                raise PartialAliasError
            self.storage[node] = owner
            for other, storage in self.storage.items():
                if storage is owner and other in self.current:
                    self._assign(other, node)
        elif name in WHOLE_ALIAS:
            self.storage[node] = owner
        elif is_view(node):
            self.storage[node] = owner
            self.viewed.add(owner)

    def _add(self, node: fx.Node, path: str, op: Op, inputs: tuple[str, ...], source: Source | None = None) -> None:
        self.nodes[path] = Node(path=path, op=op, inputs=inputs, source=source)
        self.shapes[path] = shape_of(node)
        self.current[node] = path

    def _remove_unread(self) -> None:
        """Remove reordered values without a consumer."""
        readers = Counter(path for node in self.nodes.values() for path in node.inputs)
        for node in reversed(list(self.nodes.values())):
            if node.path in self.removable and not readers[node.path]:
                readers.subtract(node.inputs)
                del self.nodes[node.path], self.shapes[node.path], self.steps[node.path]

    def _add_outputs(self) -> None:
        for name, value in self.program.results:
            if value in self.current:
                path = self._unique(f"output{name}")
                producer = self.current[value]
                self.nodes[path] = Node(path=path, op=Output(name=name), inputs=(producer,))
                self.shapes[path] = self.shapes[producer]

    def _path(self, node: fx.Node, name: str) -> str:
        """Name a call after its module; a call outside a leaf module after its operator too."""
        module, kind = node.meta["module"]
        leaf = kind.startswith("torch.nn.modules.") and "container" not in kind
        path = module if leaf and module else f"{module}.{name.strip('_')}".strip(".")
        return self._unique(printable(path))

    def _unique(self, path: str) -> str:
        self.path_counts[path] += 1
        return path if self.path_counts[path] == 1 else f"{path}#{self.path_counts[path]}"


def _translate(node: fx.Node) -> Translation | None:
    """Translate a call by the table of operators, unless more than its first result is used."""
    return None if operator_name(node) in FIRST_RESULT_ONLY and not only_first_used(node) else translate(node)


def _source(node: fx.Node) -> Source | None:
    module, kind = node.meta["module"]
    return Source(work=kind, place=module or "the module itself") if kind else None
