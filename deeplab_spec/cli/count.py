"""``deeplab-spec count``: what the network costs."""

from enum import StrEnum
from typing import Annotated

import typer

from deeplab_spec.analysis.conventions import CONVENTIONS, MAC, convention
from deeplab_spec.analysis.protocol import Protocol
from deeplab_spec.analysis.terms import Mode
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


def complete_convention(incomplete: str) -> list[tuple[str, str]]:
    """Return the conventions that a shell can complete to, with a line on each."""
    return [(entry.name, entry.title) for entry in CONVENTIONS if entry.name.startswith(incomplete)]


_NAMES = ", ".join(entry.name for entry in CONVENTIONS)


def count(
    *,
    variant: VariantOption = options.DEFAULT_VARIANT,
    choose: ChooseOption = None,
    output_stride: OutputStrideOption = options.DEFAULT_OUTPUT_STRIDE,
    size: SizeOption = options.DEFAULT_SIZE,
    classes: ClassesOption = DEFAULT_CLASSES,
    convention_name: Annotated[
        str,
        typer.Option(
            "--convention",
            metavar="NAME",
            autocompletion=complete_convention,
            help=f"What counts as one operation: {_NAMES}.",
        ),
    ] = MAC.name,
    mode: Annotated[Mode, typer.Option("--mode", help="An evaluation, or a training step.")] = Mode.FORWARD,
    scales: Annotated[
        str, typer.Option("--scales", metavar="S,S,...", help="Evaluate at several scales: side d is int((d-1)*S+1).")
    ] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Evaluate the mirrored image too.")] = False,
    by: Annotated[By, typer.Option("--by", help="One row per block, or per operation.")] = By.BLOCK,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document.")] = False,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """Count parameters and operations, and give receptive fields."""
    from deeplab_spec.render import counts, documents
    from deeplab_spec.render.count_documents import CountDocument, count_document

    if json_schema:
        output.report(documents.to_schema(CountDocument), file)
        return
    subject = options.read_subject(variant, choose, output_stride, size, classes)
    document = count_document(
        subject,
        convention=convention(convention_name),
        mode=mode,
        protocol=Protocol(scales=options.read_scales(scales), flip=flip),
        by_node=by is By.NODE,
    )
    if as_json:
        output.report(documents.to_json(document), file)
    else:
        output.table(counts.count_grid(document), file)
    output.summary(f"{subject.title}\n{counts.count_summary(document)}")
