"""The documentation: what it names exists, what it shows can be run, and what it prints is what the program prints."""

import configparser
import doctest
import importlib
import operator
import re
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer

from deeplab_spec.cli.app import PROGRAM, app
from deeplab_spec.cli.app import main as run_program
from deeplab_spec.pytest_plugin import pytest_addoption
from deeplab_spec.spec.choices import read_overrides
from deeplab_spec.spec.variants import NOTEBOOK, variant
from tests.support.site import generated_pages

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "reports/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FOLDERS = "deeplab_spec|tests|docs|reports|benchmarks"

pages = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """Return the code blocks of a page in some languages."""
    for language, body in re.findall(
        r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        if language in languages:
            yield body


def spans(page: Path) -> list[str]:
    """Return the inline code of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", text)]


def command_lines(page: Path) -> Iterator[list[str]]:
    """Return the commands that a page shows, in words, without their comments and prompts."""
    shown = "\n".join([*blocks(page, "console", "bash"), *spans(page)]).replace("\\\n", " ")
    for line in shown.splitlines():
        for part in line.removeprefix("$ ").split(" && "):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue
            if words:
                yield words


def parse(arguments: list[str]) -> Any:
    """Parse the arguments of the program as it does, and run nothing."""
    group: Any = typer.main.get_command(app)
    parent = group.make_context(PROGRAM, [], resilient_parsing=True)
    command = group.commands[arguments[0]]
    return command.make_context(command.name, arguments[1:], parent=parent).params


@pages
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    """In code and in links: who follows it arrives."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./@-]*", re.sub(r"https?://\S+", "", text))
    named = [path.rstrip(".-") for path in named if "@" not in path]  # with an at sign it is the name of a test
    linked = re.findall(r"(?:blob|tree)/main/([\w./-]+)", text)
    relative = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)

    assert [path for path in {*named, *linked} if not (ROOT / path).exists()] == []
    reports = {f"reports/{path.relative_to(ROOT / 'reports')}" for path in (ROOT / "reports").rglob("*.md")}
    made = {ROOT / "docs" / path for path in reports.union(generated_pages())}
    assert [
        path for path in relative if not (page.parent / path).exists() and (page.parent / path).resolve() not in made
    ] == []


@pages
def test_every_name_of_the_package_that_a_page_names_exists(page: Path) -> None:
    """Modules, functions and classes, in code and in the directives of the reference."""
    names = set(re.findall(r"\bdeeplab_spec(?:\.[A-Za-z_]\w*)+", page.read_text(encoding="utf-8")))
    assert [name for name in names if not exists(name)] == []


def exists(name: str) -> bool:
    """Tell whether a dotted name is a module, or an attribute of one; a folder and a function share some names."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        with suppress(ModuleNotFoundError):
            module = importlib.import_module(".".join(parts[:length]))
            try:
                return operator.attrgetter(".".join(parts[length:]))(module) is not None if parts[length:] else True
            except AttributeError:
                return False
    return False


@pages
def test_every_command_that_a_page_shows_can_be_parsed(page: Path) -> None:
    """The command, its options and the kinds of their values; choices too."""
    for words in command_lines(page):
        if words[0] == PROGRAM and re.fullmatch("[a-z]+", " ".join(words[1:2])):
            options = parse(words[1:])
            chosen = [value for value in options.get("choose") or () if "NAME" not in value]
            named = options.get("variant") or NOTEBOOK.name
            read_overrides(chosen, variant(named if isinstance(named, str) else named[0]).family)


@pages
def test_every_option_of_pytest_that_a_page_shows_is_one(page: Path) -> None:
    """Of the plugin."""
    parser = pytest.Parser(_ispytest=True)
    pytest_addoption(parser)
    known = {name for group in parser._groups for option in group.options for name in option.names()}
    shown = set(re.findall(r"--deeplab-[\w-]*\w", page.read_text(encoding="utf-8")))

    assert shown - known == set()


@pages
def test_every_environment_of_tox_that_a_page_shows_is_one(page: Path) -> None:
    """As ``tox.ini`` has it."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "tox.ini")
    known = {section.removeprefix("testenv:") for section in settings.sections()}
    shown = set(re.findall(r"tox -e ([\w-]+)", page.read_text(encoding="utf-8")))

    assert shown - known == set()


@pages
def test_every_example_of_a_page_is_true(page: Path) -> None:
    """Sessions of Python give what they show; other Python compiles."""
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=flags)
    names: dict[str, Any] = {}
    for number, body in enumerate(blocks(page, "python", "pycon"), start=1):
        if ">>>" not in body:
            compile(body, f"{page.name}, example {number}", "exec")
            continue
        example = doctest.DocTestParser().get_doctest(body, names, page.name, str(page), 0)
        runner.run(example, clear_globs=False)
        names |= example.globs

    assert runner.summarize(verbose=False).failed == 0


def test_the_architecture_names_every_folder_of_the_package() -> None:
    """A new folder gets its place."""
    folders = {path.parent.name for path in (ROOT / "deeplab_spec").glob("*/__init__.py")}
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")

    assert {folder for folder in folders if f"`deeplab_spec/{folder}`" not in page} == set()


def test_the_floors_are_those_of_the_import_contract() -> None:
    """The picture has a row for each floor, from the highest down, with the same folders."""
    picture = (ROOT / "docs/images/floors.svg").read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    drawn: dict[float, set[str]] = {}
    for y, name in re.findall(r'<rect x="[\d.]+" y="(\d+)".*\n<text [^>]*class="name">(\w+)</text>', picture):
        drawn.setdefault(float(y), set()).add(name)

    floors = [names for _, names in sorted(drawn.items())]
    assert floors == [{name.strip().removeprefix("deeplab_spec.") for name in layer.split("|")} for layer in layers]


def test_the_diagram_is_what_show_draws(tmp_path: Path) -> None:
    """Of the network that ``show`` draws by default."""
    drawn = tmp_path / "notebook.svg"
    with pytest.raises(SystemExit):
        run_program(["show", "--format", "svg", "-o", str(drawn)])

    assert drawn.read_text("utf-8") == (ROOT / "docs/images/notebook.svg").read_text("utf-8")


def test_the_readme_has_the_command_of_the_tests() -> None:
    """It is the one that the continuous integration runs."""
    command = "pip install -c constraints.txt tox && tox"
    script = (ROOT / ".ci/run").read_text(encoding="utf-8").replace("--quiet ", "")

    assert f"\n{command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert command in script


def test_the_pages_load_nothing_from_the_network() -> None:
    """Neither a page nor the theme's settings name a script, a style or a picture of another host."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    embedded = [
        found
        for page in PAGES
        for found in re.findall(
            r"!\[[^\]]*\]\(https?:[^)]*\)|<(?:img|script|link|iframe)[^>]*https?:[^>]*>", page.read_text("utf-8")
        )
    ]

    assert "  font: false" in settings
    assert embedded == []


@pytest.mark.parametrize("arguments", [["certify", "x", "--no-such"], ["no-such"], ["show", "--output-stride", "a"]])
def test_a_command_that_cannot_be_parsed_is_an_error(arguments: list[str]) -> None:
    """The check of the pages can fail."""
    with pytest.raises(Exception, match=r"no-such|valid integer"):
        parse(arguments)


def test_a_name_that_does_not_exist_is_reported() -> None:
    """The check of the pages can fail."""
    assert exists("deeplab_spec.judge.judge.certify")
    assert not exists("deeplab_spec.judge.judge.no_such")
    assert not exists("deeplab_spec.no_such.api")
