"""``deeplab-spec show``: shows a published network."""

from enum import StrEnum
from typing import Annotated

import typer

from deeplab_spec.cli import options, output
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
    variant: options.Variant = options.DEFAULT_VARIANT,
    choose: options.Choose = None,
    output_stride: options.OutputStride = DEFAULT_OUTPUT_STRIDE,
    size: options.Size = None,
    classes: options.Classes = DEFAULT_CLASSES,
    form: Annotated[
        Format,
        typer.Option("--format", help="Format of the output; skeleton is a PyTorch module to start a port from."),
    ] = Format.TABLE,
    file: options.Output = None,
    json_schema: options.Schema = False,
) -> None:
    """Show a published network, block by block."""
    from deeplab_spec.show import text
    from deeplab_spec.show.document import ShowDocument, show_document
    from deeplab_spec.show.drawing import drawing
    from deeplab_spec.show.rows import network_rows
    from deeplab_spec.show.skeleton.source import skeleton
    from deeplab_spec.views.document import to_json
    from deeplab_spec.views.table import markdown

    if json_schema:
        output.schema(ShowDocument, file)
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
