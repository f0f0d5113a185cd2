"""What ``show``, ``count`` and ``clauses`` say, as tables and text."""

import textwrap

from deeplab_spec.analysis.subject import Subject
from deeplab_spec.render.documents import (
    ClauseModel,
    ClausesDocument,
    CostModel,
    CountDocument,
    EffectModel,
    ErratumModel,
    FieldModel,
    choice_text,
)
from deeplab_spec.render.markdown import markdown
from deeplab_spec.render.outline import Row
from deeplab_spec.render.table import Grid, integer, shape, share

WIDTH = 100
_INDENT = "    "


def show_grid(rows: tuple[Row, ...]) -> Grid:
    """Return the table of ``show``: one row per block, equal neighbours in one."""
    return Grid(
        headers=("path", "layers", "channels", "stride", "rates", "skip", "output"),
        rows=tuple(
            (
                row.path,
                row.layers,
                ",".join(map(str, row.channels)),
                str(row.stride or ""),
                ",".join(map(str, row.rates if len(set(row.rates)) > 1 else row.rates[:1])),
                row.skip,
                shape(row.output),
            )
            for row in rows
        ),
        right=frozenset({3}),
    )


def show_summary(subject: Subject) -> str:
    """Return the lines below what ``show`` shows."""
    taps = ", ".join(f"{name} = {path}" for name, path in subject.network().taps[:3])
    return f"{subject.title}: {subject.variant.title}\ntaps: {taps}"


def count_grid(document: CountDocument) -> Grid:
    """Return the table of ``count``, by node where the document has nodes."""
    if document.nodes is not None:
        return _node_grid(document, document.nodes)
    total = document.total
    body = tuple(
        (
            block.path,
            shape(block.output),
            integer(block.parameters),
            share(block.parameters, total.parameters),
            integer(block.macs),
            share(block.macs, total.macs),
            field_text(block.receptive_field),
        )
        for block in document.blocks
    )
    last = ("total", "", integer(total.parameters), "100.0", integer(total.macs), "100.0", "")
    return Grid(
        headers=("path", "output", "parameters", "%", "MACs", "%", "field"),
        rows=(*body, last),
        right=frozenset({2, 3, 4, 5, 6}),
        total=True,
    )


def _node_grid(document: CountDocument, nodes: tuple[CostModel, ...]) -> Grid:
    body = tuple((node.path, shape(node.output), integer(node.parameters), integer(node.macs)) for node in nodes)
    last = ("total", "", integer(document.total.parameters), integer(document.total.macs))
    return Grid(
        headers=("path", "output", "parameters", "MACs"), rows=(*body, last), right=frozenset({2, 3}), total=True
    )


def field_text(field: FieldModel) -> str:
    """Write the extent of a receptive field.

    >>> field_text(FieldModel(extent=(19, 19), step=(4, 4), offset=(-9, -9), whole_image=False, exact=True))
    '19'
    """
    if field.whole_image:
        return "image"
    down, across = (f"{extent:g}" for extent in field.extent)
    text = down if down == across else f"{down}x{across}"
    return text if field.exact else f"<={text}"


def count_summary(document: CountDocument) -> str:
    """Return the line below the table of ``count``."""
    total = document.total
    return (
        f"{integer(total.parameters)} parameters (of which {integer(total.dead_biases)} dead biases), "
        f"{integer(total.buffers)} running statistics, "
        f"{integer(total.folded_parameters)} parameters with normalisations folded; "
        f"{integer(total.macs)} multiply-adds of convolutions per image"
    )


def clauses_text(document: ClausesDocument) -> str:
    """Return clauses and errata for a terminal of 100 columns."""
    return "\n".join(
        [line for clause in document.clauses for line in _clause_lines(clause)]
        + [line for erratum in document.errata for line in _erratum_lines(erratum)]
    )


def clauses_summary(document: ClausesDocument) -> str:
    """Return the line below the clauses."""
    errata = f" and {len(document.errata)} errata" if document.errata else ""
    hint = "" if document.variant else "; --variant gives the values of the choices, and the errata of notebook"
    return f"{len(document.clauses)} clauses{errata}{hint}"


def _clause_lines(clause: ClauseModel) -> list[str]:
    choices = ", ".join(choice_text(name, value) for name, value in clause.choices.items())
    return [
        f"{clause.id}  {clause.level}",
        *_wrapped(clause.sentence),
        *(_wrapped(f"choices: {choices}") if choices else ()),
        *_wrapped(f"source: {clause.source}"),
    ]


def _erratum_lines(erratum: ErratumModel) -> list[str]:
    return [
        f"{erratum.id}  erratum",
        *_wrapped(erratum.sentence),
        *_wrapped(f"shown by: {erratum.shown_by}"),
        *_wrapped(_correction(erratum)),
        *(_wrapped(f"adds: {effects_text(erratum.effects)}") if erratum.effects else ()),
        *_wrapped(f"source: {erratum.source}"),
    ]


def _correction(erratum: ErratumModel) -> str:
    choices = ", ".join(choice_text(name, value) for name, value in erratum.corrections.items())
    return f"corrected by: {choices}" if choices else f"note: {erratum.api_note}"


def effects_text(effects: tuple[EffectModel, ...]) -> str:
    """Write what an erratum adds to the corrected network.

    >>> effects_text((EffectModel(output_stride=16, parameters=93928, macs=0),))
    'at output stride 16 +93,928 parameters'
    """
    parts = []
    for effect in effects:
        counts = [(effect.parameters, "parameters"), (effect.macs, "multiply-adds")]
        changes = [f"{count:+,} {name}" for count, name in counts if count]
        if changes:
            parts.append(f"at output stride {effect.output_stride} {', '.join(changes)}")
    return "; ".join(parts) or "no parameters and no multiply-adds"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)


def clauses_markdown(document: ClausesDocument) -> str:
    """Return clauses and errata as Markdown tables."""
    rows = tuple(
        (
            clause.id,
            clause.level,
            clause.sentence,
            ", ".join(f"`{choice_text(name, value)}`" for name, value in clause.choices.items()),
            clause.source,
        )
        for clause in document.clauses
    )
    text = markdown(Grid(headers=("id", "level", "sentence", "choices", "source"), rows=rows))
    if not document.errata:
        return text
    errata = tuple(
        (erratum.id, erratum.sentence, _correction(erratum), effects_text(erratum.effects), erratum.source)
        for erratum in document.errata
    )
    headers = ("erratum", "sentence", "correction or note", "adds", "source")
    return f"{text}\n\n{markdown(Grid(headers=headers, rows=errata))}"
