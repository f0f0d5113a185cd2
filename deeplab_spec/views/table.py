"""Tables of text: what a terminal shows, and a pipe too."""

from collections.abc import Sequence
from dataclasses import dataclass

GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table before it is text.

    Attributes:
        headers: One per column.
        rows: Cells of every row; the last row may be a total.
        right: Columns whose cells are aligned to the right: numbers.
        total: Whether the last row adds the others up.
        dim: Rows that say little; a terminal shows them dimmed.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()
    total: bool = False
    dim: frozenset[int] = frozenset()


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


def integer(value: int) -> str:
    """Write an integer with its thousands apart.

    >>> integer(65972773424)
    '65,972,773,424'
    """
    return f"{value:,}"


def number(value: float) -> str:
    """Write a count, which may be of halves, with its thousands apart.

    >>> number(65972773424), number(1234.5), number(1234.0)
    ('65,972,773,424', '1,234.5', '1,234')
    """
    return f"{int(value) if value == int(value) else value:,}"


def share(value: float, total: float) -> str:
    """Write a part of a total in percent."""
    return f"{100 * value / total:.1f}" if total else "-"


def shape(value: tuple[int, ...]) -> str:
    """Write a shape.

    >>> shape((2048, 33, 33))
    '2048x33x33'
    """
    return "x".join(map(str, value))
