"""Fills tables of the pages from the program itself, so that no option and no choice is described twice."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import typer

from deeplab_spec.cli.app import PROGRAM, app
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.clauses import CLAUSES
from deeplab_spec.spec.variants import FAMILIES, VARIANTS


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put generated text in the place of each marker."""
    for marker, text in MARKERS.items():
        if marker in markdown:
            markdown = markdown.replace(marker, text())
    return markdown


def _commands() -> str:
    group: Any = typer.main.get_command(app)
    parent = group.make_context(PROGRAM, [], resilient_parsing=True)
    return "\n\n".join(_command(command, parent) for command in group.commands.values())


def _command(command: Any, parent: Any) -> str:  # noqa: ANN401 - typer's own classes differ between its versions
    context = command.make_context(command.name, [], parent=parent, resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context)).replace("[[", "[").replace("]]", "]")
    paragraphs = [" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n")]
    lines = [f"## {command.name}", *map(_plain, paragraphs), f"```console\n{PROGRAM} {command.name} {usage}\n```"]
    lines += [_parameter(parameter, context) for parameter in command.params if not getattr(parameter, "hidden", False)]
    return "\n\n".join(lines)


def _parameter(parameter: Any, context: Any) -> str:  # noqa: ANN401 - as _command
    name, text = parameter.get_help_record(context) or (parameter.make_metavar(context), "")
    name = re.sub(r" <(str|path)>$", "", re.sub(r"<list\[(.*)\]>$", r"<\1>", name))
    return f"`{name}`\n:   {_plain(' '.join(text.split()))}"


def _choices() -> str:
    rows = [
        f"| `{name}` | {_families(of)} | {_plain(c.about(name, of[0]).meaning)} | {_values(name, of)} |"
        for name, of in _families_of_choices().items()
    ]
    return "\n".join(["| choice | of | decides | known values |", "|---|---|---|---|", *rows])


def _families_of_choices() -> dict[str, list[type[c.Choices]]]:
    """Return the families that have a choice, by its name."""
    found: dict[str, list[type[c.Choices]]] = {}
    for family in FAMILIES:
        for name in c.names(family):
            found.setdefault(name, []).append(family)
    return found


def _families(families: list[type[c.Choices]]) -> str:
    return "all" if len(families) == len(FAMILIES) else ", ".join(family.title for family in families)


def _values(name: str, families: list[type[c.Choices]]) -> str:
    values = dict.fromkeys(value for family in families for value in c.seen_values(name, family))
    return ", ".join(f"`{c.written(value) or 'none'}`" for value in values)


def _variants() -> str:
    rows = [f"| `{entry.name}` | {_plain(entry.title)} | {_strides(entry.output_strides)} |" for entry in VARIANTS]
    return "\n".join(["| variant | is | output strides |", "|---|---|---|", *rows])


def _strides(strides: tuple[int, ...]) -> str:
    return ", ".join(map(str, strides))


def _clauses() -> str:
    rows = [f"| `{clause.id}` | {clause.level} | {_plain(clause.sentence)} |" for clause in CLAUSES]
    return "\n".join(["| clause | level | sentence |", "|---|---|---|", *rows])


def _plain(text: str) -> str:
    """Keep the characters that Markdown would read as its own."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text)


MARKERS: Final[Mapping[str, Callable[[], str]]] = {
    "<!-- every command -->": _commands,
    "<!-- every choice -->": _choices,
    "<!-- every variant -->": _variants,
    "<!-- every clause -->": _clauses,
}
