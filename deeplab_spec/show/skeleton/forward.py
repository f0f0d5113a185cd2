"""The forward pass of a group of modules, as lines of code."""

from collections.abc import Iterator
from dataclasses import dataclass

from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Add, Concat, Multiply, Resize, ResizeMode
from deeplab_spec.show.skeleton.parts import Part, Tree

Step = Part | Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """The forward pass of a group.

    Attributes:
        arguments: The names of its arguments.
        lines: Its lines, the last of which returns.
        results: The number of values that it returns.
    """

    arguments: tuple[str, ...]
    lines: tuple[str, ...]
    results: int


def forward(tree: Tree, part: Part, *, named_results: bool = False) -> Forward:
    """Write the forward pass of a group; results are returned by name if asked for, as the whole network's."""
    steps = _ordered(tree, part)
    inputs = tree.inputs(part)
    values = {path: tree.name(path) if len(inputs) > 1 or part is tree.root else "x" for path in inputs}
    values = {path: "image" if name == "input" else name for path, name in values.items()}
    arguments = tuple(values.values())
    lines = list[str]()
    results = _results(tree, part)
    for number, step in enumerate(steps):
        later = {path for other in steps[number + 1 :] for path in _reads(tree, other)}
        call = _call(tree, part, step, values)
        names = _names(tree, step, values, later, set(results.values()))
        values.update(names)
        lines.append(f"{', '.join(names.values())} = {call}")
    lines.append(_returned(results, values, named=named_results))
    if len(results) == 1 and not named_results and len(lines) > 1:
        last, _, call = lines[-2].partition(" = ")
        if lines[-1] == f"return {last}":
            lines[-2:] = [f"return {call}"]
    return Forward(arguments=arguments, lines=tuple(lines), results=1 if named_results else len(results))


def _results(tree: Tree, part: Part) -> dict[str, str]:
    """Return the values that a group returns, by name."""
    if part is tree.root:
        return {name: tree.network[path].inputs[0] for name, path in tree.network.results.items()}
    return {path: path for path in tree.results(part)}


def _returned(results: dict[str, str], values: dict[str, str], *, named: bool) -> str:
    if named:
        entries = ", ".join(f'"{name}": {values[path]}' for name, path in results.items())
        return f"return {{{entries}}}"
    return f"return {', '.join(values[path] for path in results.values())}"


def _ordered(tree: Tree, part: Part) -> list[Step]:
    """Return the steps of a group in an order in which each has its inputs; a part that has none is taken apart."""
    waiting: list[Step] = sorted([*part.children.values(), *part.functions], key=lambda step: _first(tree, step))
    known, done = set(tree.inputs(part)), list[Step]()
    while waiting:
        ready = next((step for step in waiting if known.issuperset(_reads(tree, step))), None)
        if ready is None:
            stuck = next(step for step in waiting if isinstance(step, Part) and not step.node)
            stuck.container = True
            waiting.remove(stuck)
            waiting = [*stuck.children.values(), *stuck.functions, *waiting]
            waiting.sort(key=lambda step: _first(tree, step))
            continue
        waiting.remove(ready)
        done.append(ready)
        known.update(_makes(tree, ready))
    return done


def _first(tree: Tree, step: Step) -> int:
    return tree.position(tree.inside(step)[0] if isinstance(step, Part) else step)


def _reads(tree: Tree, step: Step) -> tuple[str, ...]:
    return tree.inputs(step) if isinstance(step, Part) else step.inputs


def _makes(tree: Tree, step: Step) -> tuple[str, ...]:
    return tree.results(step) if isinstance(step, Part) else (step.path,)


def _call(tree: Tree, around: Part, step: Step, values: dict[str, str]) -> str:
    inputs = [values[path] for path in _reads(tree, step)]
    if isinstance(step, Part):
        name = step.path.removeprefix(f"{around.path}.") if around.path else step.path
        return f"self.{name}({', '.join(inputs)})"
    match step.op:
        case Add():
            return " + ".join(values[path] for path in step.inputs)
        case Multiply():
            return " * ".join(values[path] for path in step.inputs)
        case Concat():
            return f"torch.cat(({', '.join(values[path] for path in step.inputs)}), dim=1)"
        case Resize() as op:
            value, like = (values[path] for path in step.inputs)
            corners = "" if op.mode is ResizeMode.NEAREST else f", align_corners={op.align_corners}"
            return f'F.interpolate({value}, size={like}.shape[2:], mode="{op.mode}"{corners})'
        case _:
            raise TypeError(step)


def _names(tree: Tree, step: Step, values: dict[str, str], later: set[str], returned: set[str]) -> dict[str, str]:
    """Name the values of a step: ``x`` where no other value is waiting, else as the step is called."""
    made = _makes(tree, step)
    waiting = {values[path] for path in later if path in values}
    busy = waiting | {values[path] for path in returned if path in values}
    names = {}
    for path in made:
        names[path] = "x" if path == made[-1] and not waiting and "x" not in busy else _own(tree, step, path)
        if names[path] in busy:
            names[path] += "_2"
        busy.add(names[path])
    return names


def _own(tree: Tree, step: Step, path: str) -> str:
    """Return the name of a step's value: that of its only result is its own."""
    single = len(_makes(tree, step)) == 1
    name = step.path.rpartition(".")[2] if single else tree.name(path)
    return name if name.isidentifier() else f"_{name}"


def lines(found: Forward) -> Iterator[str]:
    """Yield the method."""
    returns = "Tensor" if found.results == 1 else f"tuple[{', '.join(['Tensor'] * found.results)}]"
    arguments = ", ".join(f"{name}: Tensor" for name in found.arguments)
    yield f"def forward(self, {arguments}) -> {returns}:"
    yield from (f"    {line}" for line in found.lines)
