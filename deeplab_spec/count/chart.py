"""The chart of a network's costs: bars of parameters, multiply-adds and bytes, block by block.

All bars have one scale, so that lengths of different columns can be compared. The equal blocks of the
middle flow are one row.
"""

from dataclasses import dataclass
from typing import Final

from deeplab_spec.count.network_report import CostReport
from deeplab_spec.views.template import render

ROW, BAR = 24, 15
"""Height of a row and of the bar in it, in pixels."""
LEFT, LABEL, GAP = 24, 206, 26
LONGEST, FIGURES = 170, 112
"""Width of the longest bar, and of the figures to the right of it, in pixels."""
COLUMN: Final = LONGEST + FIGURES + GAP
TOP: Final = 118
LEAST_SHOWN: Final = 0.0005
"""The smallest share that is not written as < 0.1 %."""
FILLS: Final = {"backbone": "#3b6ea5", "aspp": "#5b8f3c", "decoder": "#c77d1e", "output": "#c77d1e"}
_MIDDLE: Final = "backbone.middle_flow."


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The bar of one block in one column.

    Its share is in percent.
    """

    x: float
    width: float
    share: str
    amount: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A block with its bars."""

    y: float
    name: str
    fill: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """The heading of a column: its name, and the total."""

    x: float
    name: str
    total: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """All elements of the chart, in pixels from the upper left."""

    title: str
    description: str
    note: str
    width: float
    height: float
    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    name: str
    units: tuple[str, ...]
    counts: tuple[int, ...]


def cost_chart(report: CostReport) -> str:
    """Return the chart of a network's costs as a self-contained SVG file."""
    return render("costs.svg.j2", d=lay_out_costs(report))


def lay_out_costs(report: CostReport) -> Chart:
    """Return the chart with every element in its place."""
    names, columns = _columns(report)
    most = max(max(column.counts) / sum(column.counts) for column in columns)
    bars = [
        [_bar(column, count, LEFT + LABEL + number * COLUMN, most) for count in column.counts]
        for number, column in enumerate(columns)
    ]
    rows = tuple(
        Row(
            y=TOP + ROW * number,
            name=name.removeprefix("backbone."),
            fill=FILLS[name.split(".")[0]],
            bars=tuple(column[number] for column in bars),
        )
        for number, name in enumerate(names)
    )
    height, width = report.size
    grouped = any(name.startswith(_MIDDLE) for name in names)
    return Chart(
        title=f"Costs of {report.variant}, output stride {report.output_stride}, "
        f"{height}x{width}, {report.classes} classes",
        description=". ".join(_sentence(names, column) for column in columns) + ".",
        note="float32, one image, evaluation; shares of the total; bars of all columns have one scale"
        + ("; the middle flow is one row" if grouped else ""),
        width=LEFT + LABEL + 3 * COLUMN,
        height=TOP + ROW * len(rows) + 20,
        headings=tuple(
            Heading(x=LEFT + LABEL + number * COLUMN, name=column.name, total=amount(sum(column.counts), column.units))
            for number, column in enumerate(columns)
        ),
        rows=rows,
    )


def _columns(report: CostReport) -> tuple[tuple[str, ...], tuple[_Column, ...]]:
    """Return the names of the rows and the counts of every column, the middle flow in one row."""
    sums: dict[str, tuple[int, int, int]] = {}
    middle = [block.path for block in report.blocks if block.path.startswith(_MIDDLE)]
    combined = f"{middle[0]}..{len(middle)}" if len(middle) > 1 else ""
    for block in report.blocks:
        name = combined if combined and block.path in middle else block.path
        before = sums.get(name, (0, 0, 0))
        moved = block.bytes_read + block.bytes_written
        sums[name] = (before[0] + block.parameters, before[1] + report.multiply_adds[block.path], before[2] + moved)
    parameters, macs, moved_bytes = zip(*sums.values(), strict=True)
    return tuple(sums), (
        _Column(name="parameters", units=("", "K", "M", "B"), counts=parameters),
        _Column(name="multiply-adds", units=("", "K", "M", "B"), counts=macs),
        _Column(name="bytes read and written", units=("B", "KB", "MB", "GB"), counts=moved_bytes),
    )


def amount(count: int, units: tuple[str, ...]) -> str:
    """Write a count with three digits, in the largest unit that fits; units are a thousand apart.

    >>> [amount(count, ("", "K", "M")) for count in (960, 18624, 41055413)]
    ['960', '18.6 K', '41.1 M']
    """
    power = min((len(str(count)) - 1) // 3, len(units) - 1)
    scaled = count / 1000**power
    digits = max(0, 3 - len(str(int(scaled)))) if power else 0
    return f"{scaled:,.{digits}f} {units[power]}".rstrip()


def percent(share: float) -> str:
    """Write a share; a small one does not become zero.

    >>> percent(0.6307), percent(0.0002)
    ('63.1 %', '< 0.1 %')
    """
    return f"{100 * share:.1f} %" if share >= LEAST_SHOWN else "< 0.1 %"


def _bar(column: _Column, count: int, x: float, most: float) -> Bar:
    share = count / sum(column.counts)
    return Bar(
        x=x,
        width=round(LONGEST * share / most, 2),
        share=percent(share) if count else "",
        amount=amount(count, column.units) if count else "none",
    )


def _sentence(names: tuple[str, ...], column: _Column) -> str:
    largest = sorted(zip(column.counts, names, strict=True), key=lambda entry: -entry[0])[:3]
    total = sum(column.counts)
    shares = ", ".join(f"{name.removeprefix('backbone.')} {100 * count / total:.1f} %" for count, name in largest)
    return f"Most {column.name}: {shares}"
