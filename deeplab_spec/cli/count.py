"""``deeplab-spec count``: what the network costs."""

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
from deeplab_spec.spec.network import DEFAULT_CLASSES


class By(StrEnum):
    """What a row of the table is."""

    BLOCK = "block"
    NODE = "node"


def count(
    *,
    variant: VariantOption = options.DEFAULT_VARIANT,
    choose: ChooseOption = None,
    output_stride: OutputStrideOption = options.DEFAULT_OUTPUT_STRIDE,
    size: SizeOption = options.DEFAULT_SIZE,
    classes: ClassesOption = DEFAULT_CLASSES,
    by: Annotated[By, typer.Option("--by", help="One row per block, or per operation.")] = By.BLOCK,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document.")] = False,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """Count parameters and multiply-adds, and give receptive fields."""
    from deeplab_spec.render import documents, reports

    if json_schema:
        output.report(documents.to_schema(documents.CountDocument), file)
        return
    subject = options.read_subject(variant, choose, output_stride, size, classes)
    document = documents.count_document(subject, by_node=by is By.NODE)
    if as_json:
        output.report(documents.to_json(document), file)
    else:
        output.table(reports.count_grid(document), file)
    output.summary(f"{subject.title}\n{reports.count_summary(document)}")
