"""A comparison of two profiles as a table, Markdown, comma-separated values, and a page."""

from typing import Final

from deeplab_spec.measure.statistics import IntervalModel
from deeplab_spec.profile.document import ChangeModel, CompareDocument
from deeplab_spec.profile.text import FILTERS, PLUS_MINUS, UNKNOWN, Cell, Column, count, milliseconds, named
from deeplab_spec.views.table import Grid, Value, comma_separated, data_link, markdown
from deeplab_spec.views.template import render

_BY_CHANCE: Final = 0.05
"""The fraction of unchanged blocks whose interval does not contain zero."""
_COLUMNS: Final = (
    Column(title="block", number=False),
    Column(title="A", unit="ms"),
    Column(title="B", unit="ms"),
    Column(title="change", unit="ms", place="main"),
    Column(title=PLUS_MINUS, unit="ms"),
    Column(title="slower", unit="%"),
    Column(title="noise", place="beside"),
    Column(title="new"),
    Column(title="gone"),
)
_TEXT: Final = frozenset({0, 6})
"""Columns of words."""
_CSV: Final = (
    "block",
    "A (ns)",
    "B (ns)",
    "change (ns)",
    "change low (ns)",
    "change high (ns)",
    "slowdown (ratio)",
    "slowdown low (ratio)",
    "slowdown high (ratio)",
    "exceeds noise (0 or 1)",
    "new (operators and kernels)",
    "gone (operators and kernels)",
)
_VERDICTS: Final = {
    "within": "within the allowed slowdown of {percent:g} %",
    "over": "slower than the allowed {percent:g} %",
    "undecided": "undecided: the interval contains the allowed {percent:g} %; profile more steps",
}


def compare_heading(document: CompareDocument) -> str:
    """Return the number of changes that exceed the noise, and a second line with the modes if they differ."""
    number, rows = sum(row.exceeds_noise for row in document.rows), len(document.rows)
    if rows == 1:
        text = "The only change exceeds the noise" if number else "The only change does not exceed the noise"
    else:
        text = f"{number or 'None'} of {rows} changes {'exceed' if number > 1 else 'exceeds'} the noise"
    return f"{text}\nmode: {modes(document)}" if _modes_differ(document) else text


def modes(document: CompareDocument) -> str:
    """Return the mode of both sides, or both modes."""
    before, after = document.before.execution_mode, document.after.execution_mode
    return f"{before} (A) and {after} (B)" if _modes_differ(document) else before


def _modes_differ(document: CompareDocument) -> bool:
    return document.before.execution_mode != document.after.execution_mode


def compare_grid(document: CompareDocument) -> Grid:
    """Return the table, the largest change first; rows within the noise are dimmed."""
    rows = (*document.rows, document.total)
    return Grid(
        headers=tuple(column.header for column in _COLUMNS),
        rows=tuple(tuple(cell.text for cell in _cells(row)) for row in rows),
        right=frozenset(range(len(_COLUMNS))) - _TEXT,
        total=True,
        dim=frozenset(number for number, row in enumerate(rows) if not row.exceeds_noise),
    )


def compare_summary(document: CompareDocument) -> str:
    """Return the lines below the table: the total, the changes expected by chance, the verdict."""
    total = document.total
    times = f"{milliseconds(total.before or 0)} ms, then {milliseconds(total.after or 0)} ms"
    text = f"{document.clock} time of a step: {times}"
    if total.slowdown:
        text += f": {_percent(total.slowdown)}"
    return "\n".join(filter(None, (text, by_chance(document), verdict(document))))


def by_chance(document: CompareDocument) -> str:
    """Return how many unchanged blocks would exceed the noise, in words; empty if less than one."""
    rows = len(document.rows)
    expected = round(_BY_CHANCE * rows)
    return f"of {rows} unchanged blocks about {expected} would exceed the noise by chance" if expected else ""


def verdict(document: CompareDocument) -> str:
    """Return the verdict on the total in words; empty without a limit."""
    return _VERDICTS[document.limit.verdict].format(percent=document.limit.percent) if document.limit else ""


def compare_markdown(document: CompareDocument) -> str:
    """Return the comparison for a pull request."""
    height, width = document.size
    shape = f"{document.batch} x {height}x{width}, {document.dtype}"
    lines = [
        compare_heading(document).splitlines()[0],
        "",
        f"### {document.before.target} (A) and {document.after.target} (B)",
        "",
        *(f"{line}  " for line in compare_summary(document).splitlines()),
        f"{shape}, {document.mode.value}, {modes(document)}, on {named(document.device)}",
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
    """Return the page, in one file that loads nothing."""
    reach = max((max(abs(row.delta.low), abs(row.delta.high)) for row in document.rows), default=0.0) or 1.0
    return render(
        "compare.html.j2",
        filters=FILTERS,
        document=document,
        device=named(document.device),
        columns=_COLUMNS,
        rows=tuple((row, _cells(row)) for row in document.rows),
        total=_cells(document.total),
        heading=compare_heading(document).splitlines()[0],
        modes=modes(document),
        summary=compare_summary(document).splitlines()[0],
        by_chance=by_chance(document),
        verdict=verdict(document),
        reach=reach,
        download=data_link(compare_csv(document)),
    )


def compare_csv(document: CompareDocument) -> str:
    """Return the table as comma-separated values, the total last; times are in nanoseconds."""
    return comma_separated(_CSV, [_values(row) for row in (*document.rows, document.total)])


def _values(row: ChangeModel) -> list[Value]:
    appeared = _appeared(row)
    intervals = [(each.mean, each.low, each.high) if each else (None,) * 3 for each in (row.delta, row.slowdown)]
    return [
        row.path,
        row.before,
        row.after,
        *(value for interval in intervals for value in interval),
        int(row.exceeds_noise),
        appeared,
        len(row.calls) - appeared,
    ]


def _appeared(row: ChangeModel) -> int:
    return sum(call.change == "appeared" for call in row.calls)


def _cells(row: ChangeModel) -> tuple[Cell, ...]:
    slowdown = row.slowdown
    appeared = _appeared(row)
    return (
        Cell(text=row.path, key=row.path),
        _time(row.before),
        _time(row.after),
        Cell(text=f"{row.delta.mean / 1e6:+,.3f}", key=row.delta.mean),
        Cell(text=milliseconds((row.delta.high - row.delta.low) / 2), key=row.delta.high - row.delta.low),
        Cell(text=f"{100 * slowdown.mean:+,.1f}" if slowdown else UNKNOWN, key=slowdown.mean if slowdown else -1),
        Cell(text="above" if row.exceeds_noise else "within", key=int(row.exceeds_noise)),
        Cell(text=str(appeared or ""), key=appeared),
        Cell(text=str(len(row.calls) - appeared or ""), key=len(row.calls) - appeared),
    )


def _time(time: float | None) -> Cell:
    return Cell(text=UNKNOWN, key=-1) if time is None else Cell(text=milliseconds(time), key=time)


def _percent(slowdown: IntervalModel) -> str:
    low, high = 100 * slowdown.low, 100 * slowdown.high
    return f"{100 * slowdown.mean:+.2f} % (95 % interval of these steps: {low:+.2f} % to {high:+.2f} %)"
