"""A page for each clause: what it says, why, how it is written, and how a wrong network is refused."""

import re
from collections.abc import Iterator
from functools import cache

from deeplab_spec.spec import choices as c
from deeplab_spec.spec.clauses import CLAUSES, NOTES, Clause, Level, clauses_of
from deeplab_spec.spec.variants import FAMILIES, VARIANTS
from pages.markup import (
    CODE,
    ROOT,
    choice_link,
    clause_link,
    code,
    page,
    plain,
    prose,
    source_text,
    table,
    variant_link,
)
from pages.pictures import picture


def pages() -> Iterator[tuple[str, str, str]]:
    """Yield path, title and text of every page."""
    yield "clauses/index.md", "All clauses", _index()
    for clause in CLAUSES:
        yield f"clauses/{clause.id.lower()}.md", clause.id, _clause(clause)


def _index() -> str:
    parts = []
    for level in Level:
        rows = [(clause_link(clause.id), plain(clause.sentence)) for clause in CLAUSES if clause.level is level]
        parts += [f"## {level.capitalize()}", table(("clause", "sentence"), rows)]
    return page(
        "# Clauses",
        "A clause is a sentence that is true or false of an implementation. `certify` decides each of them; the ids "
        "are the same in its report, in the tests of the pytest plugin and in the code.",
        *parts,
    )


def _clause(clause: Clause) -> str:
    note, row = NOTES[clause.id], _report()[clause.id]
    return page(
        f"# {clause.id}",
        f"**{plain(clause.sentence)}**",
        f"{prose(note.why)} Level: {clause.level}; {_scope(clause)}. Source: {source_text(clause.source)}.",
        picture(clause),
        code("python", note.torch) if note.torch else "",
        "## How ports break it",
        prose(note.mistake),
        f"This wrong network is refused by no clause before it: {plain(row['wrong network that it catches first'])}. "
        "The judge says:",
        code("text", row["what it says"]),
        "## Choices" if clause.choices else "",
        *_choices(clause),
        "## How it is decided",
        f"By `{row['decided by']}` in [deeplab_spec/judge]({CODE}/deeplab_spec/judge); every run plants a fault of its "
        "kind, and one that does not refuse it leaves the clause undecided. "
        f"Tests: {plain(row['tests that name it'])}.",
        code("console", f"deeplab-spec certify my_model:build --variant {_example(clause)} --level {clause.level}"),
    )


def _scope(clause: Clause) -> str:
    """Return of which networks it is decided."""
    families = [family for family in FAMILIES if clause in clauses_of(None, family.family, on_request=True)]
    of = "every backbone" if len(families) == len(FAMILIES) else ", ".join(family.title for family in families)
    alone = [part for part in clause.parts if part != "network"]
    parts = f", of a whole network and of {' or '.join(alone)} alone" if alone else ", of a whole network only"
    parts = parts if clause.parts else ""
    request = ", where a lower precision is asked for" if clause.on_request else ""
    return f"decided for {of}{parts}{request}"


def _example(clause: Clause) -> str:
    return "tf-resnet50" if clause.family == "other" else "tf-release"


def _choices(clause: Clause) -> Iterator[str]:
    """Yield a table for each choice: which variant does what."""
    for name in clause.choices:
        doing: dict[str, list[str]] = {}
        for entry in VARIANTS:
            if name in c.names(entry.family) and clause in clauses_of(None, entry.family.family, on_request=True):
                doing.setdefault(c.written(getattr(entry.choices, name)) or "(empty)", []).append(entry.name)
        rows = [(f"`{value}`", ", ".join(map(variant_link, of))) for value, of in doing.items()]
        yield table((choice_link(name), "who does it"), rows)


@cache
def _report() -> dict[str, dict[str, str]]:
    """Return the rows of the report, by clause; a test holds it against the tests and the judge."""
    lines = (ROOT / "reports/clauses.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("| ")]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}
