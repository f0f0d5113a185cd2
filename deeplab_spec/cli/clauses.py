"""``deeplab-spec clauses``: lists the clauses of the specification."""

from deeplab_spec.cli import output
from deeplab_spec.cli.options import (
    JsonOption,
    ListedVariantOption,
    ListFormat,
    ListFormatOption,
    OutputOption,
    SchemaOption,
)
from deeplab_spec.spec.variants import variant as published


def clauses(
    *,
    variant: ListedVariantOption = None,
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
    words = {ListFormat.JSON: to_json, ListFormat.MARKDOWN: text.clauses_markdown, ListFormat.TABLE: text.clauses_text}
    output.report(words[ListFormat.JSON if as_json else form](document), file)
    output.summary(text.clauses_summary(document))
