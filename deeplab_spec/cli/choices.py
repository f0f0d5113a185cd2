"""``deeplab-spec choices``: lists the choices of the specification."""

from deeplab_spec.cli import output
from deeplab_spec.cli.options import (
    ChooseOption,
    JsonOption,
    ListedVariantOption,
    ListFormat,
    ListFormatOption,
    OutputOption,
    SchemaOption,
)
from deeplab_spec.errors import SpecError
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.variants import variant as published


def choices(
    *,
    variant: ListedVariantOption = None,
    choose: ChooseOption = None,
    form: ListFormatOption = ListFormat.TABLE,
    as_json: JsonOption = False,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """List the choices in which implementations differ."""
    from deeplab_spec.show import choices as lists
    from deeplab_spec.views.document import to_json, to_schema

    if json_schema:
        output.report(to_schema(lists.ChoicesDocument), file)
        return
    if choose and variant is None:
        raise SpecError("--choose", "needs --variant", ", ".join(choose))
    known = published(variant) if variant is not None else None
    chosen = c.choose(known.choices, c.read_overrides(choose or (), known.family)) if known else None
    document = lists.choices_document(known, chosen)
    words = {
        ListFormat.JSON: to_json,
        ListFormat.MARKDOWN: lists.choices_markdown,
        ListFormat.TABLE: lists.choices_text,
    }
    output.report(words[ListFormat.JSON if as_json else form](document), file)
    output.summary(lists.choices_summary(document))
