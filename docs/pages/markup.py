"""What the generated pages share: escaping, links and tables."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from deeplab_spec.graph.network import Source
from deeplab_spec.spec.sources import RELEASE

ROOT: Final = Path(__file__).parents[2]
CODE: Final = "https://github.com/deeplab-spec/deeplab-spec/tree/main"
_WORKS: Final = {RELEASE: "https://github.com/tensorflow/models/tree/master/research/deeplab"}


def plain(text: str) -> str:
    """Keep the characters that Markdown would read as its own."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text)


def prose(text: str) -> str:
    """Return text whose only markup is code between backticks."""
    return "`".join(part if number % 2 else plain(part) for number, part in enumerate(text.split("`")))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Return a table whose cells are Markdown."""
    numbers = set(right)
    rule = ["---:" if column in numbers else "---" for column in range(len(headers))]
    lines = [headers, rule, *([cell.replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def wide(text: str) -> str:
    """Let a wide table keep its code on one line, and its first column in sight."""
    return f'<div class="wide" markdown>\n\n{text}\n\n</div>'


def variant_link(name: str, up: str = "../") -> str:
    """Return a link to the page of a variant; ``up`` leads to the folder of the specification."""
    return f"[`{name}`]({up}variants/{name}.md)"


def clause_link(name: str, up: str = "../") -> str:
    """Return a link to the page of a clause."""
    return f"[`{name}`]({up}clauses/{name.lower()}.md)"


def choice_link(name: str, up: str = "../") -> str:
    """Return a link to the page of a choice."""
    return f"[`{name}`]({up}choices/{name}.md)"


def source_text(source: Source) -> str:
    """Return a source with its place, linked where the work has an address."""
    if source.work.startswith("arXiv:"):
        return f"[{source.work}](https://arxiv.org/abs/{source.work.removeprefix('arXiv:')}), {plain(source.place)}"
    address = _WORKS.get(source.work)
    work = f"[{source.work}]({address})" if address else plain(source.work)
    return f"{work}, {plain(source.place)}"


def code(language: str, text: str) -> str:
    """Return a block of code."""
    return f"```{language}\n{text}\n```"


def page(*parts: str) -> str:
    """Return a page of parts; empty ones are left out."""
    return "\n\n".join(part for part in parts if part) + "\n"
