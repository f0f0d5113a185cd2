"""Parts of one form as one class or function, whose parameters are the numbers in which they differ."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Final

from deeplab_spec.show.skeleton.forward import Forward, forward
from deeplab_spec.show.skeleton.layers import Call, Layer, Number, Slot, flat, layer, layer_call
from deeplab_spec.show.skeleton.parts import Part, Tree, groups
from deeplab_spec.spec.rows import Init

_SHARED: Final = {**dict.fromkeys(("inputs", "outputs", "groups"), "channels"), "padding": "rate"}
"""Numbers that may be one parameter, by role: channel counts; the rate and the padding that follows it."""

_ORDER: Final = (
    "channels",
    "groups",
    "kernel",
    "stride",
    "rate",
    "padding",
    "std",
    "eps",
    "momentum",
    "dropout",
    "size",
)
_RUN: Final = 4
"""Equal modules in a row that are written as one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A number in which the parts of one form differ."""

    name: str
    kind: str
    column: int
    default: Number | None

    @property
    def positional(self) -> bool:
        """Whether it is passed without its name."""
        return self.kind == "channels"

    @property
    def type(self) -> str:
        """Its type."""
        return "float" if self.kind in {"std", "eps", "momentum", "dropout"} else "int"


@dataclass(slots=True, kw_only=True, eq=False)
class Template:
    """Parts of one form.

    Attributes:
        parts: The parts.
        slots: The numbers of each.
        modules: For each number the name of the module that it belongs to.
        forward: The forward pass; None if they are chains.
        name: The name of the class or the function; empty if it is written where it stands.
        parameters: What differs.
        columns: For each number the parameter that it is; None if all parts have the same.
    """

    parts: list[Part] = field(default_factory=list)
    slots: list[tuple[Slot, ...]] = field(default_factory=list)
    modules: tuple[str, ...] = ()
    forward: Forward | None = None
    name: str = ""
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[Parameter | None, ...] = ()

    def settle(self) -> None:
        """Find the parameters: columns of one kind that differ from part to part in the same way."""
        first = self.slots[0]
        found: dict[tuple[str, tuple[Number, ...]], list[int]] = {}
        for column, slot in enumerate(first):
            vector = tuple(slots[column].value for slots in self.slots)
            if len(set(vector)) > 1:
                found.setdefault((_SHARED.get(slot.role, slot.role), vector), []).append(column)
        kinds = {columns[0]: _kind([first[column].role for column in columns]) for columns in found.values()}
        ordered = sorted(kinds, key=lambda column: (_ORDER.index(kinds[column]), column))
        names = dict(zip(ordered, self._names(ordered, kinds), strict=True))
        by_column: dict[int, Parameter] = {}
        for (_, vector), columns in found.items():
            kind = kinds[columns[0]]
            default = next((first[column].default for column in columns if first[column].role == kind), None)
            default = default if default in vector else None
            parameter = Parameter(name=names[columns[0]], kind=kind, column=columns[0], default=default)
            by_column |= dict.fromkeys(columns, parameter)
        self.columns = tuple(by_column.get(column) for column in range(len(first)))
        self.parameters = tuple(by_column[column] for column in ordered)

    def _names(self, columns: Sequence[int], kinds: Mapping[int, str]) -> list[str]:
        """Name parameters by their kinds; channel counts by their order, others of one kind by their modules too."""
        channels = _channels(sum(kinds[column] == "channels" for column in columns))
        others = [kinds[column] for column in columns[len(channels) :]]
        modules = [self.modules[column] for column in columns[len(channels) :]]
        names = [
            f"{module}_{kind}" if others.count(kind) > 1 and module else kind
            for kind, module in zip(others, modules, strict=True)
        ]
        return [*channels, *numbered(names)]


def _kind(roles: Sequence[str]) -> str:
    """Name what some columns are together: a padding that follows the rate is the rate."""
    shared = _SHARED.get(roles[0], roles[0])
    return shared if shared == "channels" and set(roles) != {"groups"} else next(iter(sorted(roles, reverse=True)))


def _channels(many: int) -> list[str]:
    """Name channel counts.

    >>> _channels(1), _channels(4)
    (['channels'], ['inputs', 'hidden', 'hidden2', 'outputs'])
    """
    return ["channels"][:many] if many <= 1 else ["inputs", *numbered(["hidden"] * (many - 2)), "outputs"]


def numbered(names: Sequence[str]) -> list[str]:
    """Return names with a number behind each that stood there before.

    >>> numbered(["a", "b", "a"])
    ['a', 'b', 'a2']
    """
    given: list[str] = []
    for name in names:
        numbers = (f"{name}{number}" for number in count(2))
        given.append(name if name not in given else next(new for new in numbers if new not in (*names, *given)))
    return given


class Templates:
    """The templates of a network.

    Attributes:
        tree: Its parts.
        named: Templates with a name, each after those that it uses.
    """

    def __init__(self, tree: Tree, drawn: Mapping[str, Init], *, named_results: bool) -> None:
        self.tree = tree
        self.layers: dict[str, Layer] = {
            node.path: layer(node.op, drawn.get(node.path))
            for part in groups(tree.root)
            for child in part.children.values()
            for node in ([child.node] if child.node else ())
        }
        self._forms: dict[str, object] = {}
        self._templates: dict[object, Template] = {}
        for part in reversed(list(groups(tree.root))):  # the outermost first: it may take others apart
            if not (part.container or self._is_chain(part)):
                self._forms[part.path] = forward(tree, part, named_results=named_results and part is tree.root)
        for part in groups(tree.root):
            self._gather(part)
        self.named = self._settled()

    def _is_chain(self, part: Part) -> bool:
        return part is not self.tree.root and self.tree.is_chain(part)

    def _gather(self, part: Part) -> None:
        found = self._forms.get(part.path)
        flow = found if isinstance(found, Forward) else None
        template = self._templates.setdefault(self._form(part), Template(forward=flow))
        template.parts.append(part)
        template.slots.append(tuple(self._slots(part)))
        template.modules = tuple(name for name, child in part.children.items() for _ in self._slots(child))

    def _form(self, part: Part) -> object:
        """Return everything of a part but its numbers."""
        if part.node:
            return self.layers[part.path].form
        flow = self._forms.get(part.path)
        children = tuple((name, self._form(child)) for name, child in part.children.items())
        return (children, flow, part.container)

    def _slots(self, part: Part) -> Iterator[Slot]:
        if part.node:
            yield from (*self.layers[part.path].slots, *self.layers[part.path].drawn)
        for child in part.children.values():
            yield from self._slots(child)

    def _settled(self) -> list[Template]:
        """Name and settle the templates; a chain that stands once is written where it stands."""
        for template in self._templates.values():
            template.settle()
        kept = [entry for entry in self._templates.values() if entry.forward or len(entry.parts) > 1]
        kept = [entry for entry in kept if not entry.parts[0].container]
        short = [self._short_name(entry) for entry in kept]
        names = [
            name if short.count(name) == 1 else self._long_name(template, name)
            for template, name in zip(kept, short, strict=True)
        ]
        for template, name in zip(kept, numbered(names), strict=True):
            template.name = name
        return kept

    def _short_name(self, template: Template) -> str:
        part = template.parts[0]
        if template.forward:
            return _camel(_word(part.name)) if part.path else "DeepLab"
        words = [self.layers[child.path].word if child.node else _word(name) for name, child in part.children.items()]
        return _word(part.name) if len({*words}) == 1 else "_".join(words).replace("depthwise_pointwise", "separable")

    def _long_name(self, template: Template, name: str) -> str:
        *_, around, own = ("", *template.parts[0].path.split("."))
        if not template.forward:
            return f"{_word(around)}_{name}" if around else name
        return f"{_camel(_word(around))}{_camel(own if len(template.parts) == 1 else _word(own))}"

    def built(self, part: Part, columns: Sequence[str]) -> "str | Call":
        """Return the call that builds a part, where its numbers are written as given."""
        if part.node:
            return layer_call(self.layers[part.path], columns)
        template = self._templates[self._form(part)]
        if not template.name:
            return self.chain(part, columns)
        arguments = []
        for parameter in template.parameters:
            text = columns[parameter.column]
            if parameter.default is None or text != str(parameter.default):
                arguments.append(("" if parameter.positional else parameter.name, text))
        return Call(callee=template.name, arguments=tuple(arguments))

    def chain(self, part: Part, columns: Sequence[str]) -> Call:
        """Return the call that builds a chain module by module; a run of equal ones is one argument."""
        built = self.children(part, columns)
        names = list(built)
        arguments: list[tuple[str, str | Call]] = []
        while names:
            run = _run(names, built)
            if len(run) >= _RUN:
                stem, first = _word(names[0]), int(names[0].removeprefix(_word(names[0])))
                each = flat(built[names[0]])
                numbers = f"n in range({first}, {first + len(run)})"
                arguments.append(("", f'**{{f"{stem}{{n}}": {each} for {numbers}}}'))
            else:
                arguments += [(name, built[name]) for name in run]
            names = names[len(run) :]
        return Call(callee="named", arguments=tuple(arguments))

    def children(self, part: Part, columns: Sequence[str]) -> dict[str, "str | Call"]:
        """Return the calls that build the modules of a part, by name."""
        built, start = {}, 0
        for name, child in part.children.items():
            end = start + sum(1 for _ in self._slots(child))
            built[name] = self.built(child, columns[start:end])
            start = end
        return built

    def columns(self, template: Template) -> list[str]:
        """Return how each number of a template is written inside it."""
        return [
            parameter.name if parameter else str(slot.value)
            for parameter, slot in zip(template.columns, template.slots[0], strict=True)
        ]


def _run(names: Sequence[str], built: Mapping[str, "str | Call"]) -> list[str]:
    """Return the names at the beginning that are numbered one after another and are built equally."""
    stem = _word(names[0])
    first = names[0].removeprefix(stem)
    if not first.isdigit():
        return [names[0]]
    expected = (f"{stem}{number}" for number in range(int(first), int(first) + len(names)))
    alike = (name == wanted and built[name] == built[names[0]] for name, wanted in zip(names, expected, strict=True))
    return list(names[: len(list(takewhile(bool, alike)))])


def _word(name: str) -> str:
    return re.sub(r"\d+$", "", name)


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
