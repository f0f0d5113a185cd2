"""Adds what is made from the program itself: the command line, and the pages of specification and reports."""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import typer
from mkdocs.structure.files import File

from deeplab_spec.cli.app import PROGRAM, app

sys.path.insert(0, str(Path(__file__).parent))

from pages import site_pages
from pages.markup import plain


def on_config(config: Any, **_: object) -> None:  # noqa: ANN401 - mkdocs' own
    """Put the generated pages into the navigation."""
    config.nav = _filled(config.nav, site_pages.navigation(PAGES))


def _filled(entry: Any, generated: Mapping[str, list[Any]]) -> Any:  # noqa: ANN401 - as YAML has it
    if isinstance(entry, dict):
        return {title: _filled(value, generated) for title, value in entry.items()}
    if isinstance(entry, list):
        return [_filled(value, generated) for value in entry]
    return generated.get(entry, entry)


def on_files(files: Any, *, config: Any, **_: object) -> None:  # noqa: ANN401 - mkdocs' own
    """Add the generated pages, and the reports as they are."""
    for path, _title, text in PAGES:
        files.append(File.generated(config, path, content=text))
    for path in site_pages.reports():
        files.append(File(str(path), str(site_pages.ROOT), config.site_dir, config.use_directory_urls))


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:  # noqa: ANN401 - mkdocs' own
    """Put generated text in the place of each marker; tables of numbers are not searched."""
    if re.fullmatch(r"reports/costs/.*-os\d+\.md", page.file.src_uri):
        page.meta["search"] = {"exclude": True}
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
    lines = [f"## {command.name}", *map(plain, paragraphs), f"```console\n{PROGRAM} {command.name} {usage}\n```"]
    lines += [_parameter(parameter, context) for parameter in command.params if not getattr(parameter, "hidden", False)]
    return "\n\n".join(lines)


def _parameter(parameter: Any, context: Any) -> str:  # noqa: ANN401 - as _command
    name, text = parameter.get_help_record(context) or (parameter.make_metavar(context), "")
    name = re.sub(r" <(str|path)>$", "", re.sub(r"<list\[(.*)\]>$", r"<\1>", name))
    return f"`{name}`\n:   {plain(' '.join(text.split()))}"


PAGES: Final = list(site_pages.specification())
MARKERS: Final[Mapping[str, Callable[[], str]]] = {"<!-- every command -->": _commands}
