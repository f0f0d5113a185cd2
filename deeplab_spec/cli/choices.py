"""``deeplab-spec choices``: lists the choices of the specification."""

from deeplab_spec.cli import options, output
from deeplab_spec.errors import SpecError
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.variants import variant as published


def choices(
    *,
    variant: options.ListedVariant = None,
    choose: options.Choose = None,
    form: options.Format = options.ListFormat.TABLE,
    as_json: options.Json = False,
    file: options.Output = None,
    json_schema: options.Schema = False,
) -> None:
    """List the choices in which implementations differ."""
    from deeplab_spec.show import choices as lists
    from deeplab_spec.views.document import to_json

    if json_schema:
        output.schema(lists.ChoicesDocument, file)
    if choose and variant is None:
        raise SpecError("--choose", "needs --variant", ", ".join(choose))
    known = published(variant) if variant is not None else None
    chosen = c.choose(known.choices, c.read_overrides(choose or (), known.family)) if known else None
    document = lists.choices_document(known, chosen)
    words = {"json": to_json, "markdown": lists.choices_markdown, "table": lists.choices_text}
    output.report(words["json" if as_json else form](document), file)
    output.summary(lists.choices_summary(document))
