"""The document of ``certify --matrix``, the certificate of every cell, and its text, summary and page."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pydantic import Field

from deeplab_spec.errors import printable
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.text import sentence
from deeplab_spec.judge.text import text as certificate_text
from deeplab_spec.result import ExitCode
from deeplab_spec.views.document import Document, Model, to_json
from deeplab_spec.views.table import Grid, inert, plain
from deeplab_spec.views.template import render

COULD_NOT_RUN: Final = "could not run"

WORST_FIRST: Final = (ExitCode.COULD_NOT_RUN, ExitCode.DIFFERENT, ExitCode.UNDECIDED, ExitCode.DONE)
"""The exit status of a matrix is the first of these that a cell has."""


class Judged(Model):
    """A cell with its result."""

    id: str
    target: str = Field(description="Its name in the file, or the target itself.")
    output_stride: int
    column: str = Field(description="The level, and the lower precision.")
    reason: str = Field(default="", description="Why it could not run; else empty.")
    certificate: Certificate | None = Field(description="Without its time; null if it could not run.")

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        return self.certificate.verdict.value if self.certificate else COULD_NOT_RUN

    @property
    def exit_code(self) -> ExitCode:
        """The exit status of its ``certify``."""
        return self.certificate.exit_code if self.certificate else ExitCode.COULD_NOT_RUN


class MatrixDocument(Document):
    """The certificates of a matrix."""

    cells: tuple[Judged, ...]

    @property
    def counts(self) -> Counter[str]:
        """The number of cells by verdict."""
        return Counter(cell.verdict for cell in self.cells)

    @property
    def exit_code(self) -> ExitCode:
        """The worst exit status of a cell."""
        return min((cell.exit_code for cell in self.cells), key=WORST_FIRST.index)


def headline(document: MatrixDocument) -> str:
    """Return the result in one line."""
    counts = ", ".join(f"{verdict}: {count}" for verdict, count in sorted(document.counts.items()))
    return f"{len(document.cells)} certificates; {counts}"


def grid(document: MatrixDocument) -> Grid:
    """Return the table of verdicts: a row for each target and output stride, a column for each level."""
    columns = tuple(dict.fromkeys(cell.column for cell in document.cells))
    rows = {(cell.target, cell.output_stride): dict.fromkeys(columns, "") for cell in document.cells}
    for cell in document.cells:
        rows[cell.target, cell.output_stride][cell.column] = cell.verdict
    body = tuple((target, str(stride), *found.values()) for (target, stride), found in rows.items())
    return Grid(headers=("target", "output stride", *columns), rows=body, right=frozenset({1}))


def text(document: MatrixDocument) -> str:
    """Return the report for a terminal."""
    found = [f"{printable(cell.id)}: {_sentence(cell)}" for cell in _open(document)]
    return "\n\n".join([plain(grid(document)), *(["\n".join(found)] if found else []), headline(document)])


def summary(document: MatrixDocument) -> str:
    """Return the summary for a pull request."""
    table = grid(document)
    rows = [table.headers, tuple(":---" for _ in table.headers), *(tuple(map(inert, row)) for row in table.rows)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    found = [f"- {inert(cell.id)}: {inert(_sentence(cell))}" for cell in _open(document)]
    return "\n".join([f"### {headline(document)}", "", *lines, *(["", *found] if found else [])])


def page(document: MatrixDocument) -> str:
    """Return the page; it needs no network connection, and every text in it is escaped."""
    return render(
        "matrix.html.j2",
        headline=headline(document),
        good=document.exit_code is ExitCode.DONE,
        grid=grid(document),
        details=[(cell.id, cell.verdict, _details(cell)) for cell in _open(document)],
    )


FORMS: Final[Mapping[str, Callable[[MatrixDocument], str]]] = {
    ".html": page,
    ".json": to_json,
    ".md": summary,
    ".txt": text,
}
"""What writes each form of the report, by suffix."""


def _open(document: MatrixDocument) -> Iterator[Judged]:
    return (cell for cell in document.cells if cell.exit_code is not ExitCode.DONE)


def _details(cell: Judged) -> str:
    return (
        "\n".join(map(printable, certificate_text(cell.certificate).splitlines())) if cell.certificate else cell.reason
    )


def _sentence(cell: Judged) -> str:
    return printable(sentence(cell.certificate) if cell.certificate else cell.reason)
