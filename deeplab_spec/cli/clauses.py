"""``deeplab-spec clauses``: what is decided of an implementation."""

from enum import StrEnum
from typing import Annotated

import typer

from deeplab_spec.cli import output
from deeplab_spec.cli.options import OutputOption, SchemaOption, complete_variant
from deeplab_spec.spec.variants import VARIANTS
from deeplab_spec.spec.variants import variant as named


class Format(StrEnum):
    """The forms in which clauses are listed."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JSON = "json"


_NAMES = ", ".join(entry.name for entry in VARIANTS)
_HELP = f"Give the values of its choices, and its errata: {_NAMES}."


def clauses(
    *,
    variant: Annotated[
        str | None, typer.Option("--variant", metavar="NAME", autocompletion=complete_variant, help=_HELP)
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to list them.")] = Format.TABLE,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """List what is decided of an implementation, with sources."""
    from deeplab_spec.show import text
    from deeplab_spec.show.document import ClausesDocument, clauses_document
    from deeplab_spec.views.document import to_json, to_schema

    if json_schema:
        output.report(to_schema(ClausesDocument), file)
        return
    document = clauses_document(named(variant) if variant is not None else None)
    match form:
        case Format.JSON:
            output.report(to_json(document), file)
        case Format.MARKDOWN:
            output.report(text.clauses_markdown(document), file)
        case Format.TABLE:
            output.report(text.clauses_text(document), file)
    output.summary(text.clauses_summary(document))
