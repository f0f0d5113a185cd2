"""Tables: as text, on a terminal, as Markdown and as comma-separated values."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from deeplab_spec.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

GAP = "  "
_LONGEST = 300
"""Letters of a text in Markdown."""
Value = str | float | None
"""A cell of comma-separated values; None is an empty cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table before it is text.

    A character that a terminal would obey is shown as a question mark: names may come from a file.

    Attributes:
        headers: One per column.
        rows: Cells of every row; the last row may be a total.
        right: Right-aligned columns: numbers.
        total: Whether the last row is the total of the others.
        dim: Less important rows, dimmed on a terminal.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()
    total: bool = False
    dim: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        rows = tuple(tuple(printable(cell.replace("\n", " ")) for cell in row) for row in self.rows)
        object.__setattr__(self, "rows", rows)


def plain(grid: Grid) -> str:
    """Return a table as text, one line per row.

    >>> print(plain(Grid(headers=("path", "macs"), rows=(("stem", "9"), ("aspp", "12")), right=frozenset({1}))))
    path  macs
    ----  ----
    stem     9
    aspp    12
    """
    widths = [max(map(len, column)) for column in zip(grid.headers, *grid.rows, strict=True)]
    rule = tuple("-" * width for width in widths)
    body = grid.rows if not grid.total else (*grid.rows[:-1], rule, grid.rows[-1])
    return "\n".join(_line(row, widths, grid.right) for row in (grid.headers, rule, *body))


def _line(cells: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    aligned = (
        cell.rjust(width) if column in right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return GAP.join(aligned).rstrip()


def rich_table(grid: Grid) -> "Table":
    """Return a table for a rich console."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=grid.total)
    if grid.total and len(grid.rows) - 1 in grid.dim:
        table.footer_style = "dim"
    footers = grid.rows[-1] if grid.total else ("",) * len(grid.headers)
    for column, (header, footer) in enumerate(zip(grid.headers, footers, strict=True)):
        justify: Literal["left", "right"] = "right" if column in grid.right else "left"
        table.add_column(header, Text(footer), justify=justify, overflow="fold")
    for number, row in enumerate(grid.rows[:-1] if grid.total else grid.rows):
        table.add_row(*map(Text, row), style="dim" if number in grid.dim else None)
    return table


def markdown(grid: Grid) -> str:
    """Return a table as Markdown.

    >>> print(markdown(Grid(headers=("path", "macs"), rows=(("stem", "9"),), right=frozenset({1}))))
    | path | macs |
    | :--- | ---: |
    | stem | 9 |
    """
    rule = tuple("---:" if column in grid.right else ":---" for column in range(len(grid.headers)))
    return "\n".join("| " + " | ".join(map(_escaped, row)) + " |" for row in (grid.headers, rule, *grid.rows))


def _escaped(cell: str) -> str:
    """Escape the end of a cell, and the beginning of a tag outside of code."""
    shown = cell if "`" in cell else re.sub(r"<(?=[A-Za-z/!?])", r"\\<", cell)
    return shown.replace("|", "\\|")


def inert(text: str) -> str:
    r"""Return text that Markdown shows as it is: no tag, link, mention or line break is in it.

    >>> print(inert("a|b <i> @me"))
    a\|b \<i\> &#64;me
    """
    shown = printable(text)
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&:]|(?<=www)\.)", r"\\\1", shown).replace("@", "&#64;")


def comma_separated(headers: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """Return a table as comma-separated values, without a line break at its end.

    Numbers are raw, in the unit that the header names.

    >>> print(comma_separated(("block", "time (ns)"), (("a,b", 1.5), ("c", None))))
    block,time (ns)
    "a,b",1.5
    c,
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def data_link(text: str) -> str:
    """Return a link that holds comma-separated values itself, for a page without a network or a script.

    >>> data_link("block,time (ns)")
    'data:text/csv;charset=utf-8,block%2Ctime%20%28ns%29%0A'
    """
    content = quote(f"{text}\n", safe="")
    return f"data:text/csv;charset=utf-8,{content}"


def integer(value: int) -> str:
    """Write an integer with thousands separators.

    >>> integer(65972773424)
    '65,972,773,424'
    """
    return f"{value:,}"


def number(value: float) -> str:
    """Write a count, which may have halves, with thousands separators.

    >>> number(65972773424), number(1234.5), number(1234.0)
    ('65,972,773,424', '1,234.5', '1,234')
    """
    return f"{int(value) if value == int(value) else value:,}"


def share(value: float, total: float) -> str:
    """Write a share of a total in percent."""
    return f"{100 * value / total:.1f}" if total else "-"


def shape(value: tuple[int, ...]) -> str:
    """Write a shape.

    >>> shape((2048, 33, 33))
    '2048x33x33'
    """
    return "x".join(map(str, value))
