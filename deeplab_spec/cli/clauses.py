"""``deeplab-spec clauses``: lists the clauses of the specification."""

from deeplab_spec.cli import options, output
from deeplab_spec.spec.variants import variant as published


def clauses(
    *,
    variant: options.ListedVariant = None,
    form: options.Format = options.ListFormat.TABLE,
    as_json: options.Json = False,
    file: options.Output = None,
    json_schema: options.Schema = False,
) -> None:
    """List the clauses that certify decides, with their sources."""
    from deeplab_spec.show import text
    from deeplab_spec.show.document import ClausesDocument, clauses_document
    from deeplab_spec.views.document import to_json

    if json_schema:
        output.schema(ClausesDocument, file)
    document = clauses_document(published(variant) if variant is not None else None)
    words = {"json": to_json, "markdown": text.clauses_markdown, "table": text.clauses_text}
    output.report(words["json" if as_json else form](document), file)
    output.summary(text.clauses_summary(document))
