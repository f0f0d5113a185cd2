"""A network in a few dozen rows, for the table and the drawing of ``show``."""

from dataclasses import dataclass, replace

from deeplab_spec.analysis.costs import block_of
from deeplab_spec.analysis.sizes import Shape, shapes
from deeplab_spec.graph.network import Network
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.rows import Block, ConvUnit, GateUnit, HeadUnit, SeparableUnit, SkipKind, Unit, last_conv


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One block of the network, or a run of equal blocks.

    Attributes:
        path: Dotted position; a run of blocks ends in ``block1..16``.
        layers: Its layers, as text.
        channels: Channels after each of its layers.
        stride: Stride of its last layer; 0 if it has none.
        rates: Rate of every 3x3 convolution.
        skip: Its skip connection; empty if it has none.
        dropout: Probability of the dropout after it.
        output: Shape of its value.
        count: The number of equal blocks.
    """

    path: str
    layers: str
    channels: tuple[int, ...] = ()
    stride: int = 0
    rates: tuple[int, ...] = ()
    skip: str = ""
    dropout: float = 0.0
    output: Shape = (0, 0, 0)
    count: int = 1

    @property
    def blocks(self) -> tuple[str, ...]:
        """The paths of its blocks."""
        if self.count == 1:
            return (self.path,)
        stem, _, last = self.path.rpartition("..")
        stem = stem.rstrip("0123456789")
        return tuple(f"{stem}{number}" for number in range(int(last) - self.count + 1, int(last) + 1))


def network_rows(subject: Subject) -> tuple[Row, ...]:
    """Return the rows of a network in the order of the graph.

    Raises:
        GraphError: If the choices do not fit together at this size.
    """
    graph = subject.network()
    known = shapes(graph, subject.size)
    outputs = {block_of(node.path): known[node.path] for node in graph}
    described = _described(subject, graph)
    rows = [replace(described[path], output=output) for path, output in outputs.items() if path in described]
    return _merged(tuple(rows))


def _described(subject: Subject, graph: Network) -> dict[str, Row]:
    table = subject.rows()
    decoder = table.decoder
    rows = [
        _conv(row)
        if isinstance(row, ConvUnit)
        else _row(row.path, f"{row.op.kind} {row.op.kernel[0]}x{row.op.kernel[1]}, stride {row.op.stride[0]}")
        for row in table.backbone.stem
    ]
    rows += [_block(row) for row in table.backbone.blocks]
    rows += [_head(row) for row in (*([table.aspp.conv1x1] if table.aspp.conv1x1 else []), *table.aspp.atrous)]
    if table.aspp.pool:
        rows.append(replace(_conv(table.aspp.pool), layers="mean, 1x1"))
    rows += [_row("aspp.concat", "concat"), _conv(table.aspp.projection)]
    rows.append(_row("aspp.dropout", f"dropout {table.aspp.dropout:g}"))
    if table.aspp.refinement:
        rows.append(_head(table.aspp.refinement))
    if decoder.low_level:
        rows.append(_conv(decoder.low_level))
        rows += [_row("decoder.resize", decoder.resize), _row("decoder.concat", "concat")]
    rows += [replace(_head(row), dropout=dropout) for row, dropout in zip(decoder.convs, decoder.dropouts, strict=True)]
    rows += [_conv(decoder.logits), _row("output.resize", table.output_resize)]
    if table.auxiliary:
        second = table.auxiliary
        rows += [_conv(second.conv), _row("auxiliary.dropout", f"dropout {second.dropout:g}"), _conv(second.logits)]
        rows.append(_row("auxiliary.resize", table.output_resize))
    blocks = {block_of(node.path) for node in graph}
    return {row.path: row for row in rows if any(path.startswith(row.path) for path in blocks)}


def _row(path: str, layers: str) -> Row:
    return Row(path=path, layers=layers)


def _conv(row: ConvUnit) -> Row:
    return Row(
        path=row.path,
        layers=f"conv {row.kernel}x{row.kernel}",
        channels=(row.channels_out,),
        stride=row.stride,
        rates=row.rates if row.rates[0] != row.rates[1] else row.rates[:1],
    )


def _head(row: HeadUnit) -> Row:
    if isinstance(row, ConvUnit):
        return _conv(row)
    return replace(_conv(row.depthwise), path=row.path, layers="separable 3x3", channels=(row.pointwise.channels_out,))


def _block(row: Block) -> Row:
    skips = {SkipKind.NONE: "", SkipKind.IDENTITY: "identity", SkipKind.CONV: "conv 1x1"}
    units = row.units
    wide = [conv for conv in row.convolutions if conv.kernel > 1]
    separable = all(isinstance(unit, SeparableUnit) for unit in units)
    return Row(
        path=row.path,
        layers=f"{len(units)} separable" if separable else ", ".join(map(_layer, units)),
        channels=tuple(last_conv(unit).channels_out for unit in units),
        stride=max(conv.stride for conv in row.convolutions),
        rates=tuple(conv.rates[0] for conv in wide),
        skip=skips[row.skip_kind],
    )


def _layer(unit: Unit) -> str:
    if isinstance(unit, GateUnit):
        return "gate"
    conv = last_conv(unit)
    kind = "depthwise " if 1 < conv.groups == conv.channels_in else ""
    return f"{kind}{conv.kernel}x{conv.kernel}"


def _merged(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Merge equal blocks after one another into one row."""
    merged: list[Row] = []
    for row in rows:
        before = merged[-1] if merged else None
        if before and replace(before, path=row.path, count=1) == row and not row.path.startswith(_APART):
            flow, _, numbers = before.path.rpartition(".block")
            first = int(numbers.partition("..")[0])
            merged[-1] = replace(before, path=f"{flow}.block{first}..{first + before.count}", count=before.count + 1)
        else:
            merged.append(row)
    return tuple(merged)


_APART = ("backbone.entry_flow.", "backbone.exit_flow.", "backbone.stem.", "aspp.", "decoder.", "output.")
"""Paths of rows that stand alone although they may be equal."""
