"""``deeplab-spec clauses``: lists the clauses of the specification."""

from typing import Annotated

import typer

from deeplab_spec.cli import output
from deeplab_spec.cli.options import (
    SOME_VARIANTS,
    JsonOption,
    ListFormat,
    ListFormatOption,
    OutputOption,
    SchemaOption,
    complete_variant,
)
from deeplab_spec.spec.variants import variant as published

_HELP = f"Show the values of this network's choices, and its errata: {SOME_VARIANTS}."


def clauses(
    *,
    variant: Annotated[
        str | None, typer.Option("--variant", metavar="NAME", autocompletion=complete_variant, help=_HELP)
    ] = None,
    form: ListFormatOption = ListFormat.TABLE,
    as_json: JsonOption = False,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """List the clauses that certify decides, with their sources."""
    from deeplab_spec.show import text
    from deeplab_spec.show.document import ClausesDocument, clauses_document
    from deeplab_spec.views.document import to_json, to_schema

    if json_schema:
        output.report(to_schema(ClausesDocument), file)
        return
    document = clauses_document(published(variant) if variant is not None else None)
    match ListFormat.JSON if as_json else form:
        case ListFormat.JSON:
            output.report(to_json(document), file)
        case ListFormat.MARKDOWN:
            output.report(text.clauses_markdown(document), file)
        case ListFormat.TABLE:
            output.report(text.clauses_text(document), file)
    output.summary(text.clauses_summary(document))
