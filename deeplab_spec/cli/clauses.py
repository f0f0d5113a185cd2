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
    from deeplab_spec.views import documents, reports

    if json_schema:
        output.report(documents.to_schema(documents.ClausesDocument), file)
        return
    document = documents.clauses_document(named(variant) if variant is not None else None)
    match form:
        case Format.JSON:
            output.report(documents.to_json(document), file)
        case Format.MARKDOWN:
            output.report(reports.clauses_markdown(document), file)
        case Format.TABLE:
            output.report(reports.clauses_text(document), file)
    output.summary(reports.clauses_summary(document))
