"""A comparison of two profiles as a table, Markdown, and a page."""

from typing import Final

from deeplab_spec.render.compare_documents import ChangeModel, CompareDocument, IntervalModel
from deeplab_spec.render.markdown import markdown
from deeplab_spec.render.profile import UNKNOWN, Cell, Column, count, environment, milliseconds, named
from deeplab_spec.render.table import Grid

_PLUS_MINUS: Final = "\N{PLUS-MINUS SIGN}"
_COLUMNS: Final = (
    Column(title="block", number=False),
    Column(title="A", unit="ms"),
    Column(title="B", unit="ms"),
    Column(title="change", unit="ms"),
    Column(title=_PLUS_MINUS, unit="ms"),
    Column(title="slower", unit="%"),
    Column(title="new", number=True),
    Column(title="gone", number=True),
)
_VERDICTS: Final = {
    "within": "not slower than the {percent:g} % that are allowed",
    "over": "slower than the {percent:g} % that are allowed",
    "undecided": "undecided: the interval contains the {percent:g} % that are allowed; profile more steps",
}


def compare_grid(document: CompareDocument) -> Grid:
    """Return the table, the largest change first."""
    rows = [[cell.text for cell in _cells(row)] for row in (*document.rows, document.total)]
    return Grid(
        headers=tuple(f"{column.title} {column.unit}".strip() for column in _COLUMNS),
        rows=tuple(map(tuple, rows)),
        right=frozenset(range(1, len(_COLUMNS))),
        total=True,
    )


def compare_summary(document: CompareDocument) -> str:
    """Return the outcome in two lines."""
    total = document.total
    times = f"{milliseconds(total.before or 0)} ms, then {milliseconds(total.after or 0)} ms"
    text = f"{document.clock} time of a step: {times}"
    if total.slowdown:
        text += f": {_percent(total.slowdown)}"
    return f"{text}\n{verdict(document)}" if document.limit else text


def verdict(document: CompareDocument) -> str:
    """Word whether the total is slower than allowed; empty if nothing was to be decided."""
    return _VERDICTS[document.limit.verdict].format(percent=document.limit.percent) if document.limit else ""


def compare_markdown(document: CompareDocument) -> str:
    """Return the comparison for a pull request."""
    height, width = document.size
    found = document.device
    lines = [
        f"### {document.before.target} (A) and {document.after.target} (B)",
        "",
        *(f"{line}  " for line in compare_summary(document).splitlines()),
        f"{document.batch} x {height}x{width}, {document.dtype}, {document.mode.value}, on {named(found)}",
        "",
        markdown(compare_grid(document)),
    ]
    calls = [(row.path, call) for row in document.rows for call in row.calls]
    if calls:
        grid = Grid(
            headers=("block", "change", "kind", "name", "per step", "ms"),
            rows=tuple(
                (path, call.change, call.kind, f"`{call.name}`", count(call.calls), milliseconds(call.time))
                for path, call in calls
            ),
            right=frozenset({4, 5}),
        )
        lines += ["", "#### Operators and kernels that only one side has", "", markdown(grid)]
    return "\n".join(lines)


def compare_html(document: CompareDocument) -> str:
    """Return the page: one file that needs no network."""
    reach = max((max(abs(row.delta.low), abs(row.delta.high)) for row in document.rows), default=0.0) or 1.0
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            document=document,
            device=named(document.device),
            columns=_COLUMNS,
            rows=tuple((row, _cells(row)) for row in document.rows),
            total=_cells(document.total),
            summary=compare_summary(document).splitlines()[0],
            verdict=verdict(document),
            reach=reach,
        )
        .rstrip("\n")
    )


def _cells(row: ChangeModel) -> tuple[Cell, ...]:
    slowdown = row.slowdown
    appeared = sum(call.change == "appeared" for call in row.calls)
    return (
        Cell(text=row.path, key=row.path),
        _time(row.before),
        _time(row.after),
        Cell(text=f"{row.delta.mean / 1e6:+,.3f}", key=row.delta.mean),
        Cell(text=milliseconds((row.delta.high - row.delta.low) / 2), key=row.delta.high - row.delta.low),
        Cell(text=f"{100 * slowdown.mean:+,.1f}" if slowdown else UNKNOWN, key=slowdown.mean if slowdown else -1),
        Cell(text=str(appeared or ""), key=appeared),
        Cell(text=str(len(row.calls) - appeared or ""), key=len(row.calls) - appeared),
    )


def _time(time: float | None) -> Cell:
    return Cell(text=UNKNOWN, key=-1) if time is None else Cell(text=milliseconds(time), key=time)


def _percent(slowdown: IntervalModel) -> str:
    low, high = 100 * slowdown.low, 100 * slowdown.high
    return f"{100 * slowdown.mean:+.2f} % (95 % interval of these steps: {low:+.2f} % to {high:+.2f} %)"
