"""The text of ``port``."""

from collections.abc import Iterator
from typing import Final

from deeplab_spec.align.match import block_or_stem
from deeplab_spec.port.document import PortDocument, RunModel
from deeplab_spec.views.table import Grid, integer

_GROUPS: Final = 8
"""Groups of tensors without a partner that are listed."""
_SETTABLE: Final = {"eps": "eps", "rate": "dilation", "stride": "stride"}
"""Attributes of a node that are attributes of its module, by name."""
_ACTIONS: Final = ("copied", "folded", "unfolded", "shifted", "initialised", "kept")
_WIDTH: Final = 100
_ENGINES: Final = {"interpreter": "the interpreter on both graphs", "torch": "torch on both modules"}


def port_text(document: PortDocument) -> str:
    """Return the report; its last line is the result."""
    return "\n".join(_lines(document))


def map_grid(document: PortDocument) -> Grid:
    """Return the parameter map as a table, with a row for every tensor of the destination."""
    rows = (
        (entry.name, f"{entry.action}, permuted" if entry.permuted else entry.action, ", ".join(entry.sources) or "-")
        for entry in document.parameters
    )
    return Grid(headers=("destination", "action", "source"), rows=tuple(rows))


def _lines(document: PortDocument) -> Iterator[str]:
    title = f"{document.source} -> {document.destination}, output stride {document.output_stride}"
    yield f"{title}{f'  torch {document.torch}, cpu'.rjust(_WIDTH - len(title))}"
    counts = document.counts
    actions = [f"{integer(count)} {action}" for action in _ACTIONS if (count := getattr(counts, action))]
    if counts.permuted:
        actions.append(f"{integer(counts.permuted)} with permuted channels")
    if document.parameters:
        yield f"  {integer(len(document.parameters))} tensors: {', '.join(actions)}"
    yield from (f"  note: {note}" for note in document.notes)
    yield from _differences(document)
    yield from _gaps(document)
    if document.proof:
        yield "  results in float64"
        yield from (f"    {_run(run)}" for run in document.proof.runs)
        if document.proof.refused:
            yield f"    not compared at {document.proof.refused}"
        if document.proof.first:
            first = document.proof.first
            error = "not a number" if first.error is None else f"off by {first.error:.2g}"
            yield f"    first difference at {first.path} (source: {first.source_path}), {error}"
    if document.advice:
        yield f"  this would move them: {document.advice}"
    yield _outcome(document)


def _outcome(document: PortDocument) -> str:
    if document.written:
        return f"MOVED, proven equal: {document.written}, {', '.join(document.dtypes)}"
    if document.verdict == "moved":
        return "PROVEN EQUAL, no file was requested"
    return f"NOT MOVED, nothing is written: {document.reason}"


def _run(run: RunModel) -> str:
    where = f"{_ENGINES[run.engine]}, {run.size[0]}x{run.size[1]}"
    if not run.rounded:
        where += ", before rounding"
    if run.bit_equal:
        return f"{where}: bit-equal"
    error = "not a number" if run.error is None else f"{run.error:.2g}"
    largest = "" if run.largest is None else f", largest difference {run.largest:.2g}"
    return f"{where}: relative error {error}, allowed {run.allowed:.2g}{largest}{'' if run.equal else '  FAILED'}"


def _differences(document: PortDocument) -> Iterator[str]:
    """Group equal differences; a layer that is missing on one side is listed as a gap if there are gaps."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for difference in document.differences:
        if difference.attribute != "node" or not document.gaps:
            where = difference.path or f"nothing (source: {difference.source_path})"
            groups.setdefault((difference.attribute, difference.destination, difference.source), []).append(where)
    if groups:
        yield "  the destination differs from the source"
    for (attribute, destination, source), paths in groups.items():
        yield f"    {_first_of(paths)}: {attribute} is {destination}, must be {source}"
        if attribute in _SETTABLE and not document.destination.startswith("reference"):
            yield f"        set there: model.get_submodule({paths[0]!r}).{_SETTABLE[attribute]} = {source}"


def _first_of(paths: list[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _gaps(document: PortDocument) -> Iterator[str]:
    """Group gaps by side, block and reason."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for gap in document.gaps:
        groups.setdefault((gap.side, block_or_stem(gap.path or gap.names[0]), gap.reason), []).extend(gap.names)
    if groups:
        yield "  without a partner"
    for (side, block, reason), names in list(groups.items())[:_GROUPS]:
        yield f"    {block} of the {side}, {_first_of(names)}: {reason}"
    if len(groups) > _GROUPS:
        yield f"    and {len(groups) - _GROUPS} more groups, with --json"
