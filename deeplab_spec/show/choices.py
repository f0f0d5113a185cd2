"""The list of choices: the JSON document of ``choices``, and its text."""

from collections.abc import Iterator
from typing import Any

from deeplab_spec.show.text import choice_text, wrapped
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.clauses import CLAUSES, Clause, clauses_of
from deeplab_spec.spec.errata import ERRATA
from deeplab_spec.spec.variants import FAMILIES, NOTEBOOK, VARIANTS, Variant
from deeplab_spec.views.document import Document, Model
from deeplab_spec.views.table import Grid, markdown


class ValueModel(Model):
    """One known value of a choice; ``written`` is its form on the command line."""

    value: Any
    written: str
    variants: tuple[str, ...]


class ChoiceModel(Model):
    """One choice of some families of backbones; ``chosen`` is null without a variant.

    A name that means something else in another family has an entry for each meaning.
    """

    name: str
    families: tuple[str, ...]
    meaning: str
    values: tuple[ValueModel, ...]
    chosen: Any
    shown_by: str
    clauses: tuple[str, ...]
    errata: tuple[str, ...]
    source: str


class ChoicesDocument(Document):
    """The document of ``choices --format json``."""

    variant: str | None
    choices: tuple[ChoiceModel, ...]


def choices_document(variant: Variant | None = None, chosen: c.Choices | None = None) -> ChoicesDocument:
    """Return the choices of every family, or those of a variant with the chosen values."""
    families = (variant.family,) if variant else FAMILIES
    values = chosen or (variant.choices if variant else None)
    return ChoicesDocument(
        variant=variant.name if variant else None,
        choices=tuple(_choice(name, of, values) for name, of in _grouped(families)),
    )


def _grouped(families: tuple[type[c.Choices], ...]) -> Iterator[tuple[str, list[type[c.Choices]]]]:
    """Yield every choice with the families for which it means the same."""
    found: dict[tuple[str, c.About, tuple[c.ChoiceValue, ...]], list[type[c.Choices]]] = {}
    for family in families:
        for name in c.names(family):
            found.setdefault((name, c.about(name, family), c.seen_values(name, family)), []).append(family)
    for shared in (False, True):  # a family's own choices first
        yield from ((name, of) for (name, *_), of in found.items() if (len(of) == len(FAMILIES)) is shared)


def _choice(name: str, families: list[type[c.Choices]], chosen: c.Choices | None) -> ChoiceModel:
    about = c.about(name, families[0])
    return ChoiceModel(
        name=name,
        families=tuple(family.family for family in families),
        meaning=about.meaning,
        values=tuple(_values(name, families)),
        chosen=None if chosen is None else c.plain(getattr(chosen, name)),
        shown_by=about.shown_by,
        clauses=tuple(clause.id for clause in CLAUSES if name in clause.choices and _is_of(clause, families)),
        errata=tuple(
            erratum.id for erratum in ERRATA if NOTEBOOK.family in families and name in dict(erratum.corrections)
        ),
        source=about.source,
    )


def _is_of(clause: Clause, families: list[type[c.Choices]]) -> bool:
    return any(clause in clauses_of(None, family.family, on_request=True) for family in families)


def _values(name: str, families: list[type[c.Choices]]) -> Iterator[ValueModel]:
    """Yield the known values of a choice: those that are named, then others that a variant has."""
    doing = [(entry.name, getattr(entry.choices, name)) for entry in VARIANTS if entry.family in families]
    for value in dict.fromkeys((*c.seen_values(name, families[0]), *(value for _, value in doing))):
        yield ValueModel(
            value=c.plain(value),
            written=c.written(value),
            variants=tuple(variant for variant, chosen in doing if chosen == value),
        )


def choices_text(document: ChoicesDocument) -> str:
    """Return the choices for a terminal of 100 columns."""
    return "\n".join(line for choice in document.choices for line in _lines(choice, document.variant))


def _lines(choice: ChoiceModel, variant: str | None) -> list[str]:
    heading = choice_text(choice.name, choice.chosen)
    return [
        f"{heading}  {families_text(choice)}" if variant is None else heading,
        *wrapped(choice.meaning),
        *wrapped(f"values: {'; '.join(map(_value_text, choice.values))}"),
        *wrapped(f"shown by: {choice.shown_by}"),
        *(wrapped(f"clauses: {', '.join(choice.clauses)}") if choice.clauses else ()),
        *wrapped(f"source: {choice.source}"),
    ]


def families_text(choice: ChoiceModel) -> str:
    """Name the families that have a choice."""
    titles = {family.family: family.title for family in FAMILIES}
    return (
        "every family" if len(choice.families) == len(titles) else ", ".join(map(titles.__getitem__, choice.families))
    )


def _value_text(value: ValueModel) -> str:
    """Write a value with those who do it.

    >>> _value_text(ValueModel(value=[], written="", variants=("notebook", "tf-release")))
    '(empty): notebook, tf-release'
    """
    return f"{value.written or '(empty)'}: {', '.join(value.variants) or 'no variant'}"


def choices_markdown(document: ChoicesDocument) -> str:
    """Return the choices as a Markdown table."""
    rows = tuple(
        (
            f"`{choice_text(choice.name, choice.chosen)}`",
            families_text(choice),
            choice.meaning,
            "; ".join(map(_value_text, choice.values)),
            choice.shown_by,
            ", ".join(choice.clauses),
            choice.source,
        )
        for choice in document.choices
    )
    headers = ("choice", "of", "decides", "values", "shown by", "clauses", "source")
    return markdown(Grid(headers=headers, rows=rows))


def choices_summary(document: ChoicesDocument) -> str:
    """Return the line below the choices."""
    hint = "" if document.variant else "; --variant gives the values of one network"
    return f"{len(document.choices)} choices{hint}"
