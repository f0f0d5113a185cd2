"""The text of ``show`` and ``clauses``: tables, lines and Markdown."""

import textwrap

from deeplab_spec.show.document import ClauseModel, ClausesDocument, EffectModel, ErratumModel
from deeplab_spec.show.rows import Row
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import written
from deeplab_spec.views.table import Grid, markdown, shape

WIDTH = 100
_INDENT = "    "


def show_grid(rows: tuple[Row, ...]) -> Grid:
    """Return the table of ``show``: one row per block, or per run of equal blocks."""
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
    """Return the lines below the output of ``show``."""
    taps = ", ".join(f"{name} = {path}" for name, path in subject.network().taps[:3])
    return f"{subject.title}: {subject.variant.title}\ntaps: {taps}"


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
        *wrapped(clause.sentence),
        *wrapped(f"why: {clause.why}"),
        *wrapped(f"often wrong: {clause.mistake}"),
        *(wrapped(f"choices: {choices}") if choices else ()),
        *wrapped(f"source: {clause.source}"),
    ]


def _erratum_lines(erratum: ErratumModel) -> list[str]:
    return [
        f"{erratum.id}  erratum",
        *wrapped(erratum.sentence),
        *wrapped(f"shown by: {erratum.shown_by}"),
        *wrapped(_correction(erratum)),
        *(wrapped(f"adds: {effects_text(erratum.effects)}") if erratum.effects else ()),
        *wrapped(f"source: {erratum.source}"),
    ]


def choice_text(name: str, value: object) -> str:
    """Write a choice of a document as on the command line; only its name if it has no value."""
    if value is None:
        return name
    return f"{name}={written(tuple(value) if isinstance(value, list) else value)}"  # type: ignore[arg-type]  # from plain


def _correction(erratum: ErratumModel) -> str:
    choices = ", ".join(choice_text(name, value) for name, value in erratum.corrections.items())
    return f"corrected by: {choices}" if choices else f"note: {erratum.api_note}"


def effects_text(effects: tuple[EffectModel, ...]) -> str:
    """Write the effects of an erratum on the counts.

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


def wrapped(text: str) -> list[str]:
    """Return indented lines of at most 100 columns."""
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
