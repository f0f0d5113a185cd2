"""Tables as Markdown."""

from deeplab_spec.views.table import Grid


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
    return cell.replace("|", "\\|").replace("\n", " ")
