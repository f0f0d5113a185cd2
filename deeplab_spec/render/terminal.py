"""Tables as a terminal draws them."""

from rich import box
from rich.table import Table

from deeplab_spec.render.table import Grid


def drawn(grid: Grid) -> Table:
    """Return a table for a rich console."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=grid.total)
    footers = grid.rows[-1] if grid.total else ("",) * len(grid.headers)
    for column, (header, footer) in enumerate(zip(grid.headers, footers, strict=True)):
        table.add_column(header, footer, justify="right" if column in grid.right else "left", overflow="fold")
    for row in grid.rows[:-1] if grid.total else grid.rows:
        table.add_row(*row)
    return table
