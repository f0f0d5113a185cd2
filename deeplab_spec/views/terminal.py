"""Tables as a terminal draws them."""

from typing import Final

from rich import box
from rich.table import Table

from deeplab_spec.views.table import Grid

_DIM: Final = "dim"


def drawn(grid: Grid) -> Table:
    """Return a table for a rich console."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=grid.total)
    if grid.total and len(grid.rows) - 1 in grid.dim:
        table.footer_style = _DIM
    footers = grid.rows[-1] if grid.total else ("",) * len(grid.headers)
    for column, (header, footer) in enumerate(zip(grid.headers, footers, strict=True)):
        table.add_column(header, footer, justify="right" if column in grid.right else "left", overflow="fold")
    for number, row in enumerate(grid.rows[:-1] if grid.total else grid.rows):
        table.add_row(*row, style=_DIM if number in grid.dim else None)
    return table
