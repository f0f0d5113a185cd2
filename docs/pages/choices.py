"""A page for each choice, and one that shows all variants side by side."""

from collections.abc import Iterator
from math import prod

from deeplab_spec.errors import DeepLabSpecError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import roles
from deeplab_spec.show.choices import ChoiceModel, ValueModel, choices_document, families_text
from deeplab_spec.show.document import initial_tensors
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.distributions import initials
from deeplab_spec.spec.network import graph, rows
from deeplab_spec.spec.variants import FAMILIES, TF_RELEASE, VARIANTS, Variant
from pages.markup import choice_link, clause_link, code, page, plain, table, variant_link, wide

_BASES = {entry.family.family: entry for entry in (*reversed(VARIANTS), TF_RELEASE)}
"""The network in which a choice of each family is changed, to show what it does."""

_STRIDE = 8
"""An output stride at which every choice about rates makes a difference."""


def pages() -> Iterator[tuple[str, str, str]]:
    """Yield path, title and text of every page."""
    by_name: dict[str, list[ChoiceModel]] = {}
    for choice in choices_document().choices:
        by_name.setdefault(choice.name, []).append(choice)
    yield "choices/index.md", "All choices", _index(by_name)
    for name in sorted(by_name):
        yield (
            f"choices/{name}.md",
            name,
            page(f"# {name}", *(part for choice in by_name[name] for part in _choice(choice))),
        )


def _index(by_name: dict[str, list[ChoiceModel]]) -> str:
    rows = [
        (
            choice_link(name),
            families_text(choice),
            plain(choice.meaning),
            ", ".join(f"`{value.written or '(empty)'}`" for value in choice.values),
        )
        for name, choices in by_name.items()
        for choice in choices
    ]
    return page(
        "# Choices",
        "A choice is a decision in which implementations of this network really differ. `--choose NAME=VALUE` changes "
        "one wherever a variant is named. [All variants side by side](../comparison.md).",
        code("console", "deeplab-spec choices --variant tf-release"),
        table(("choice", "of", "decides", "values"), rows),
    )


def _choice(choice: ChoiceModel) -> Iterator[str]:
    base = _BASES[choice.families[0]]
    families, meaning = families_text(choice), plain(choice.meaning)
    yield f"## {families[0].upper()}{families[1:]}"
    yield f"**{meaning[0].upper()}{meaning[1:]}.**"
    lines = [_value(choice, value, base) for value in choice.values]
    yield wide(table(("value", "who does it", f"what it changes in `{base.name}` at output stride {_STRIDE}"), lines))
    yield f"Shown by: {plain(choice.shown_by)}."
    if choice.clauses:
        yield f"Decided by: {', '.join(map(clause_link, choice.clauses))}."
    if choice.errata:
        links = (f"[{name}](../variants/notebook.md#{name.lower()})" for name in choice.errata)
        yield f"Errata of the source document that it corrects: {', '.join(links)}."
    yield f"Source: {plain(choice.source)}."
    other = next((value for value in choice.values if value.written and base.name not in value.variants), None)
    if other:
        yield code("console", f"deeplab-spec show --variant {base.name} --choose {choice.name}={other.written}")


def _value(choice: ChoiceModel, value: ValueModel, base: Variant) -> tuple[str, str, str]:
    doing = ", ".join(map(variant_link, value.variants)) or "public ports"
    return f"`{value.written or '(empty)'}`", doing, _effect(choice, value, base)


def _effect(choice: ChoiceModel, value: ValueModel, base: Variant) -> str:
    """Return what a value changes in a network, in words."""
    if base.name in value.variants:
        return "this is what it does"
    try:
        chosen = c.choose(base.choices, {choice.name: c.parse(choice.name, value.written, base.family)})
        before, after = (rows(choices, _STRIDE, 21) for choices in (base.choices, chosen))
        changes = _differences(graph(before), graph(after))
    except DeepLabSpecError as error:
        return f"not possible alone: {plain(str(error))}"
    if changes:
        return changes
    old, new = initials(before), initials(after)
    first = next((path for path in new if old.get(path) != new[path]), None)
    if first:
        call = initial_tensors(graph(after)[first].op, new[first])["weight"].torch
        return f"initial weights, first `{first}`: `{call}`"
    return "no node"


def _differences(before: Network, after: Network) -> str:
    old, new = ({node.path: node for node in network} for network in (before, after))
    added, removed = [path for path in new if path not in old], [path for path in old if path not in new]
    changed = [
        path for path in new if path in old and (new[path].op, new[path].inputs) != (old[path].op, old[path].inputs)
    ]
    parts = [
        f"{len(paths)} {word}, first {_named(paths[0], old, new)}"
        for word, paths in (("changed", changed), ("added", added), ("removed", removed))
        if paths
    ]
    more = _parameters(after) - _parameters(before)
    return "; ".join([*parts, *([f"{more:+,} parameters"] if more else [])])


def _named(path: str, old: Network | dict, new: dict) -> str:  # type: ignore[type-arg]
    if path not in old or path not in new:
        return f"`{path}`"
    before, after = old[path], new[path]
    for name in type(after.op).__slots__:
        if getattr(before.op, name, None) != getattr(after.op, name):
            return f"`{path}`: {plain(name)} {_text(getattr(before.op, name, None))} → {_text(getattr(after.op, name))}"
    return f"`{path}`, which reads `{', '.join(after.inputs)}`"


def _text(value: object) -> str:
    if isinstance(value, tuple) and len(set(value)) == 1:
        return f"{value[0]}"
    return plain(f"{value}")


def _parameters(network: Network) -> int:
    owned = (roles(node.op).items() for node in network)
    return sum(prod(shape) for tensors in owned for role, shape in tensors if not role.startswith("running"))


def comparison() -> str:
    """Return the page with all variants side by side."""
    shared = c.names(FAMILIES[0])[-len(c.fields(c.Choices)) :]
    parts = ["## Every backbone", _side_by_side(shared, VARIANTS)]
    for family in FAMILIES:
        of = tuple(entry for entry in VARIANTS if entry.family is family)
        parts += [
            f"## {family.title}",
            _side_by_side(tuple(name for name in c.names(family) if name not in shared), of),
        ]
    return page(
        "# All variants, choice by choice",
        "One column for each variant; a value that differs from the variant on its left is bold.",
        *parts,
    )


def _side_by_side(names: tuple[str, ...], variants: tuple[Variant, ...]) -> str:
    lines = []
    for name in names:
        values = [c.written(getattr(entry.choices, name)) or "(empty)" for entry in variants]
        cells = [
            f"`{value}`" if value == before else f"**`{value}`**"
            for value, before in zip(values, [values[0], *values], strict=False)
        ]
        lines.append((choice_link(name, ""), *cells))
    return wide(table(("choice", *(variant_link(entry.name, "") for entry in variants)), lines))
