"""A profile as a table, a line, comma-separated values, and a page."""

from dataclasses import dataclass
from typing import Final, Literal

from deeplab_spec.profile.document import (
    TENSORBOARD,
    TRACE,
    BlockModel,
    CallModel,
    DeviceModel,
    ProfileDocument,
    TimeModel,
)
from deeplab_spec.views.table import Grid, Value, comma_separated, data_link, share
from deeplab_spec.views.template import render

UNKNOWN: Final = "-"
PLUS_MINUS: Final = "\N{PLUS-MINUS SIGN}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a page's table.

    Attributes:
        title: Its title.
        unit: Its unit; empty for none.
        number: Whether it is sorted as numbers.
        place: Its place where rows are stacked: ``main`` beside the name, ``beside`` the bar, or after both.
        of: The column that it belongs to, where its title alone is not enough.
    """

    title: str
    unit: str = ""
    number: bool = True
    place: Literal["main", "beside", ""] = ""
    of: str = ""

    @property
    def header(self) -> str:
        """Title and unit, for a table of text."""
        return f"{self.title} {self.unit}".strip()

    @property
    def label(self) -> str:
        """The name of a cell outside of the table."""
        return f"{self.of} {self.header}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a page's table: its text, and the key for sorting."""

    text: str
    key: float | str


def milliseconds(nanoseconds: float) -> str:
    """Write a time.

    >>> milliseconds(1234567.8)
    '1.235'
    """
    return f"{nanoseconds / 1e6:,.3f}"


def microseconds(nanoseconds: float) -> str:
    """Write a short time.

    >>> microseconds(1234567.8)
    '1,234.6'
    """
    return f"{nanoseconds / 1e3:,.1f}"


def count(calls: float) -> str:
    """Write calls per step, which may be a mean.

    >>> count(3.0), count(2.5)
    ('3', '2.5')
    """
    return f"{calls:,.10g}"


FILTERS: Final = {"ms": milliseconds, "us": microseconds, "count": count}
"""Filters of the pages."""


def half(time: TimeModel) -> float:
    """Return half of a time's interval."""
    return (time.high - time.low) / 2


def profile_summary(document: ProfileDocument) -> str:
    """Return the lines below the table: target, mode, device, and images per second."""
    (height, width), time = document.size, document.total.host
    what = f"{document.target}, output stride {document.output_stride}, {document.batch} x {height}x{width}"
    how = f"{document.dtype}, {document.mode.value}, {document.execution_mode}"
    where = f"on {named(document.device)}, torch {document.torch}"
    rate = document.batch / (time.mean / 1e9)
    times = f"{document.steps} steps: {milliseconds(time.mean)} ms +- {milliseconds(half(time))} each"
    return "\n".join(
        [f"{what}, {how}, {where}", f"{times}, {rate:,.3g} images per second under the profiler", *document.notes]
    )


def named(device: DeviceModel) -> str:
    """Return a device in words."""
    return f"{device.name} ({device.kind}, {device.threads} {'thread' if device.threads == 1 else 'threads'})"


def profile_grid(document: ProfileDocument) -> Grid:
    """Return the table of blocks, in the order of the network."""
    columns, rows = table(document)
    cells = (*rows, _cells(document.total, document))
    return Grid(
        headers=tuple(column.header for column in columns),
        rows=tuple(tuple(cell.text for cell in row) for row in cells),
        right=frozenset(range(1, len(columns))),
        total=True,
    )


def table(document: ProfileDocument) -> tuple[tuple[Column, ...], tuple[tuple[Cell, ...], ...]]:
    """Return the columns and cells; columns of a device only for a profile of one."""
    on_device = document.total.device is not None
    columns = [
        Column(title="block", number=False),
        Column(title="host", unit="ms", place="" if on_device else "main"),
        Column(title=PLUS_MINUS, unit="ms", of="host" if on_device else ""),
    ]
    if on_device:
        columns += [Column(title="device", unit="ms", place="main"), Column(title=PLUS_MINUS, unit="ms", of="device")]
    columns += [
        Column(title="share", unit="%"),
        Column(title="work", unit="GFLOP"),
        Column(title="moved", unit="MB"),
        Column(title="intensity", unit="FLOP/B"),
        Column(title="roofline", unit="%"),
        Column(title="operators"),
    ]
    if on_device:
        columns.append(Column(title="kernels"))
    columns.append(Column(title="peak", unit="MB"))
    return tuple(columns), tuple(_cells(row, document) for row in document.rows)


def _cells(row: BlockModel, document: ProfileDocument) -> tuple[Cell, ...]:
    cells = [Cell(text=row.path, key=row.path), *_time(row.host)]
    if row.device:
        cells += _time(row.device)
    total = document.total.time.mean
    cells += [
        Cell(text=share(row.time.mean, total), key=row.time.mean),
        _number(row.flops, 1e9, 3),
        _number(row.bytes, 1e6, 1),
        _number(row.intensity, 1, 1),
        _number(row.roofline, 0.01, 1),
        _calls(row.operators),
    ]
    if row.kernels is not None:
        cells.append(_calls(row.kernels))
    cells.append(_number(row.peak_bytes, 1e6, 1))
    return tuple(cells)


def _time(time: TimeModel) -> tuple[Cell, Cell]:
    return (Cell(text=milliseconds(time.mean), key=time.mean), Cell(text=milliseconds(half(time)), key=half(time)))


def _number(value: float | None, unit: float, digits: int) -> Cell:
    if value is None:
        return Cell(text=UNKNOWN, key=-1)
    return Cell(text=f"{value / unit:,.{digits}f}", key=value)


def _calls(calls: tuple[CallModel, ...]) -> Cell:
    number = sum(call.calls for call in calls)
    return Cell(text=count(number), key=number)


def profile_html(document: ProfileDocument) -> str:
    """Return the page, in one file that loads nothing."""
    columns, rows = table(document)
    return render(
        "profile.html.j2",
        filters=FILTERS,
        document=document,
        device=named(document.device),
        columns=columns,
        rows=tuple(zip(document.rows, rows, strict=True)),
        total=_cells(document.total, document),
        whole=document.total.time.mean,
        longest=max(row.time.mean for row in document.rows),
        between=between,
        half=half,
        download=data_link(profile_csv(document)),
        trace=TRACE,
        tensorboard=TENSORBOARD.as_posix(),
    )


def profile_csv(document: ProfileDocument) -> str:
    """Return the table as comma-separated values, the total last; times are in nanoseconds."""
    headers = ["block", *_interval_headers("host")]
    if document.total.device:
        headers += _interval_headers("device")
    headers += ["work (FLOP)", "moved (bytes)", "intensity (FLOP/byte)", "roofline (ratio)", "operators (per step)"]
    if document.total.kernels is not None:
        headers.append("kernels (per step)")
    headers.append("peak (bytes)")
    return comma_separated(headers, [_values(row) for row in (*document.rows, document.total)])


def _interval_headers(clock: str) -> list[str]:
    return [f"{clock} (ns)", f"{clock} low (ns)", f"{clock} high (ns)"]


def _values(row: BlockModel) -> list[Value]:
    values: list[Value] = [row.path]
    for time in (row.host, row.device):
        values += [time.mean, time.low, time.high] if time else []
    values += [row.flops, row.bytes, row.intensity, row.roofline]
    values += [sum(call.calls for call in calls) for calls in (row.operators, row.kernels) if calls is not None]
    return [*values, row.peak_bytes]


def between(row: BlockModel) -> float:
    """Return the host's nanoseconds in a block outside of all operators: Python, and waits."""
    return max(0.0, row.host.mean - sum(call.time for call in row.operators))
