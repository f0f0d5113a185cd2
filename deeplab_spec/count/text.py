"""The text of ``count`` and ``count --against``: tables and summaries."""

from collections.abc import Sequence

from deeplab_spec.analysis.conventions import FULL
from deeplab_spec.analysis.costs import Number
from deeplab_spec.analysis.counters import convention
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.count.document import CostModel, CountDocument, FieldModel, TotalModel
from deeplab_spec.count.side_by_side import SideBySideDocument
from deeplab_spec.views.table import Grid, integer, number, shape, share

_HEADERS = {"mac": "MACs", "full": "operations", "fvcore": "flops", "torch": "FLOPs", "tfprof": "MACs"}
_MEGA = 1e6


def count_grid(document: CountDocument) -> Grid:
    """Return the table of ``count``: a row per node if the document has nodes, else per block."""
    if document.convention == FULL.name:
        return _full_grid(document.nodes or document.blocks, document.total)
    if document.nodes is not None:
        return _node_grid(document, document.nodes)
    total = document.total
    body = tuple(
        (
            block.path,
            shape(block.output),
            integer(block.parameters),
            share(block.parameters, total.parameters),
            number(block.macs),
            share(block.macs, total.macs),
            field_text(block.receptive_field),
        )
        for block in document.blocks
    )
    last = ("total", "", integer(total.parameters), "100.0", number(total.macs), "100.0", "")
    return Grid(
        headers=("path", "output", "parameters", "%", _HEADERS.get(document.convention, "operations"), "%", "field"),
        rows=(*body, last),
        right=frozenset({2, 3, 4, 5, 6}),
        total=True,
    )


def _node_grid(document: CountDocument, nodes: tuple[CostModel, ...]) -> Grid:
    body = tuple((node.path, shape(node.output), integer(node.parameters), number(node.macs)) for node in nodes)
    last = ("total", "", integer(document.total.parameters), number(document.total.macs))
    headers = ("path", "output", "parameters", _HEADERS.get(document.convention, "operations"))
    return Grid(headers=headers, rows=(*body, last), right=frozenset({2, 3}), total=True)


def _full_grid(rows: Sequence[CostModel], total: TotalModel) -> Grid:
    body = (*((row.path, row) for row in rows), ("total", total))
    return Grid(
        headers=("path", "parameters", "operations", "read", "written", "kept", "live", "per byte"),
        rows=tuple(
            (
                path,
                integer(row.parameters),
                integer(row.flops),
                *(
                    f"{count / _MEGA:.1f}"
                    for count in (row.bytes_read, row.bytes_written, row.bytes_kept, row.bytes_live)
                ),
                f"{row.intensity:.2f}",
            )
            for path, row in body
        ),
        right=frozenset(range(1, 8)),
        total=True,
    )


def field_text(field: FieldModel | None) -> str:
    """Write the extent of a receptive field; empty if it is not known.

    >>> field_text(FieldModel(extent=(19, 19), step=(4, 4), offset=(-9, -9), whole_image=False, exact=True))
    '19'
    """
    if field is None:
        return ""
    if field.whole_image:
        return "image"
    down, across = (f"{extent:g}" for extent in field.extent)
    text = down if down == across else f"{down}x{across}"
    return text if field.exact else f"<={text}"


def count_summary(document: CountDocument) -> str:
    """Return the lines below the table of ``count``."""
    total = document.total
    counted = convention(document.convention)
    passes = len(document.scales) * (2 if document.flip else 1)
    per = "image" if passes == 1 else f"image, in {passes} passes"
    stored = (
        f"{integer(total.parameters)} parameters (of which {integer(total.dead_biases)} dead biases), "
        f"{integer(total.buffers)} running statistics, "
        f"{integer(total.folded_parameters)} parameters with normalisations folded"
    )
    mode = "in a training step" if document.mode is Mode.TRAIN else "in evaluation"
    computed = f"{number(total.macs)} = {total.macs / 1e9:.2f} B {counted.unit} per {per}, {mode}"
    lines = [stored, computed, f"{counted.name}: {counted.title}", *_provenance(document)]
    if document.convention == FULL.name:
        lines.append(
            f"in MB of float32: {total.bytes_read / _MEGA:,.1f} read, {total.bytes_written / _MEGA:,.1f} written, "
            f"{total.bytes_kept / _MEGA:,.1f} kept for the backward pass, "
            f"at most {total.peak_bytes / _MEGA:,.1f} in use at once, parameters and running statistics included"
        )
    if len(total.operators) > 1:
        lines.append("by operator: " + ", ".join(f"{name} {number(count)}" for name, count in total.operators.items()))
    if total.skipped:
        lines.append("not counted: " + ", ".join(f"{name} {count} times" for name, count in total.skipped.items()))
    return "\n".join([*lines, *document.notes])


def _provenance(document: CountDocument) -> list[str]:
    if document.published:
        published = document.published
        residual = f"{100 * published.residual:+.4f} %"
        return [f"published: {published.billions:.2f} B ({published.source}); residual {residual}"]
    if document.prediction:
        return ["a prediction by the same rule: no published value is known"]
    return []


def side_by_side_grid(document: SideBySideDocument) -> Grid:
    """Return the table of ``count --against``: the rows that differ, and the total."""
    shown = [row for row in document.rows if not row.equal]
    body = tuple(
        (row.path, integer(row.parameters[0]), _signed(row.parameters), number(row.macs[0]), _signed(row.macs))
        for row in (*shown, document.total)
    )
    headers = ("path", "parameters", "second's", document.convention, "second's")
    return Grid(headers=headers, rows=body, right=frozenset({1, 2, 3, 4}), total=bool(shown))


def _signed(values: tuple[Number, Number]) -> str:
    difference = values[1] - values[0]
    return f"{difference:+,}" if difference else "="


def side_by_side_summary(document: SideBySideDocument) -> str:
    """Return the lines below the table of ``count --against``."""
    equal = sum(row.equal for row in document.rows)
    lines = [
        f"first: {document.first}",
        f"second: {document.second}",
        f"{equal} of {len(document.rows)} rows are equal",
        f"operations: {document.operations_explained or 'no convention explains the difference'}",
        f"parameters: {document.parameters_explained or 'no way of counting explains the difference'}",
    ]
    return "\n".join(lines)
