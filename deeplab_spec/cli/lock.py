"""``deeplab-spec lock``: writes down what a network is, so that it can be held to it later."""

from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.cli import output
from deeplab_spec.cli.options import ArgumentOption, SchemaOption, read_arguments
from deeplab_spec.views.progress import progress

_ENDING = ".lock"


def lock(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="What builds the network: MODULE:CALLABLE, reference:VARIANT, or a file (.pt2, .onnx).",
            show_default=False,
        ),
    ] = "",
    *,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.lock", help="The lock that is written.")
    ] = None,
    output_stride: Annotated[
        int | None,
        typer.Option("--output-stride", metavar="N", help="Build it for this output stride. [16; of a file: its own]"),
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", metavar="N", help="Channels of the logits. [21; of a file: its own]")
    ] = None,
    arg: ArgumentOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was locked as JSON.")] = False,
    json_schema: SchemaOption = False,
) -> None:
    """Write down what a network is, to hold others against.

    The file has its normal form, counts and choices: certify --against FILE.lock.

    Exit status: 0 written, 3 it cannot be built or read.
    """
    from deeplab_spec.lock.document import LockDocument, lock_document
    from deeplab_spec.views.document import to_json, to_schema

    if json_schema:
        output.report(to_schema(LockDocument))
        return
    if not target:
        raise typer.BadParameter("say what to lock", param_hint="TARGET")
    if file is None or file.suffix != _ENDING:
        raise typer.BadParameter(f"say where the lock goes: a file whose name ends in {_ENDING}", param_hint="--output")
    from deeplab_spec.align import lock_file as lock_text
    from deeplab_spec.capture.target import parse_target
    from deeplab_spec.lock.service import LockRequest, lock_target
    from deeplab_spec.views.files import write_whole

    request = LockRequest(
        target=parse_target(target, read_arguments(arg)), output_stride=output_stride, classes=classes
    )
    with progress() as told:
        locked = lock_target(request, told)
    write_whole(file, lock_text.text(locked))
    document = lock_document(locked)
    if as_json:
        output.report(to_json(document))
    output.summary(f"{file}: {document.summary}")
