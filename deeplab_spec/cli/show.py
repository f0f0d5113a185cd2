"""``deeplab-spec show``: shows a published network."""

from enum import StrEnum
from typing import Annotated

import typer

from deeplab_spec.cli import options, output
from deeplab_spec.cli.options import (
    ChooseOption,
    ClassesOption,
    OutputOption,
    OutputStrideOption,
    SchemaOption,
    SizeOption,
    VariantOption,
)
from deeplab_spec.spec.network import DEFAULT_CLASSES, DEFAULT_OUTPUT_STRIDE


class Format(StrEnum):
    """The formats of a network."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    SVG = "svg"
    SKELETON = "skeleton"


def show(
    *,
    variant: VariantOption = options.DEFAULT_VARIANT,
    choose: ChooseOption = None,
    output_stride: OutputStrideOption = DEFAULT_OUTPUT_STRIDE,
    size: SizeOption = None,
    classes: ClassesOption = DEFAULT_CLASSES,
    form: Annotated[
        Format,
        typer.Option("--format", help="Format of the output; skeleton is a PyTorch module to start a port from."),
    ] = Format.TABLE,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """Show a published network, block by block."""
    from deeplab_spec.show import text
    from deeplab_spec.show.document import ShowDocument, show_document
    from deeplab_spec.show.drawing import drawing
    from deeplab_spec.show.rows import network_rows
    from deeplab_spec.show.skeleton.source import skeleton
    from deeplab_spec.views.document import to_json, to_schema
    from deeplab_spec.views.table import markdown

    if json_schema:
        output.report(to_schema(ShowDocument), file)
        return
    subject = options.read_subject(variant, choose, output_stride, size, classes)
    match form:
        case Format.JSON:
            output.report(to_json(show_document(subject)), file)
        case Format.SVG:
            output.report(drawing(subject), file)
        case Format.SKELETON:
            output.report(skeleton(subject), file)
        case Format.MARKDOWN:
            output.report(markdown(text.show_grid(network_rows(subject))), file)
        case Format.TABLE:
            output.table(text.show_grid(network_rows(subject)), file)
    output.summary(text.show_summary(subject))
