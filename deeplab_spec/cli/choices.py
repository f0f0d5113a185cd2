"""``deeplab-spec choices``: lists the choices of the specification."""

from typing import Annotated

import typer

from deeplab_spec.cli import output
from deeplab_spec.cli.options import (
    SOME_VARIANTS,
    ChooseOption,
    JsonOption,
    ListFormat,
    ListFormatOption,
    OutputOption,
    SchemaOption,
    complete_variant,
)
from deeplab_spec.errors import SpecError
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.variants import variant as published

_HELP = f"Show the choices of this network, with its values: {SOME_VARIANTS}."


def choices(
    *,
    variant: Annotated[
        str | None, typer.Option("--variant", metavar="NAME", autocompletion=complete_variant, help=_HELP)
    ] = None,
    choose: ChooseOption = None,
    form: ListFormatOption = ListFormat.TABLE,
    as_json: JsonOption = False,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """List the choices in which implementations differ."""
    from deeplab_spec.show import choices as texts
    from deeplab_spec.views.document import to_json, to_schema

    if json_schema:
        output.report(to_schema(texts.ChoicesDocument), file)
        return
    if choose and variant is None:
        raise SpecError("--choose", "needs --variant", ", ".join(choose))
    known = published(variant) if variant is not None else None
    chosen = c.choose(known.choices, c.read_overrides(choose or (), known.family)) if known else None
    document = texts.choices_document(known, chosen)
    match ListFormat.JSON if as_json else form:
        case ListFormat.JSON:
            output.report(to_json(document), file)
        case ListFormat.MARKDOWN:
            output.report(texts.choices_markdown(document), file)
        case ListFormat.TABLE:
            output.report(texts.choices_text(document), file)
    output.summary(texts.choices_summary(document))
