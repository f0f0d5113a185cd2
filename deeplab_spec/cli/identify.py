"""``deeplab-spec identify``: which published network, with which choices, a network is."""

import importlib.util
from typing import Annotated

import typer

from deeplab_spec.cli import output
from deeplab_spec.cli.options import ArgumentOption, OutputOption, SchemaOption, read_arguments
from deeplab_spec.errors import MissingExtraError


def identify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="What builds the network: MODULE:CALLABLE, reference:VARIANT, or a file (.pt2, .onnx).",
            show_default=False,
        ),
    ] = "",
    *,
    output_stride: Annotated[
        list[int] | None,
        typer.Option(
            "--output-stride",
            metavar="N",
            help="Read it at this output stride; repeat for several. [16; of a file: its own]",
        ),
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", metavar="N", help="Channels of the logits. [21; of a file: its own]")
    ] = None,
    arg: ArgumentOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document.")] = False,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """Find the nearest published network, and what no choice explains.

    Exit status: 0 choices explain everything, 1 something is left or it is another network, 3 it cannot be built.
    """
    from deeplab_spec.identify.document import IdentifyDocument, text
    from deeplab_spec.views.document import to_json, to_schema

    if json_schema:
        output.report(to_schema(IdentifyDocument), file)
        return
    if not target:
        raise typer.BadParameter("say what to identify", param_hint="TARGET")
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("identify TARGET", "torch")
    from deeplab_spec.capture.target import parse_target
    from deeplab_spec.identify.service import identify as identified

    document = identified(parse_target(target, read_arguments(arg)), output_stride or (), classes)
    report = text(document)
    output.report(to_json(document) if as_json else report, file)
    if as_json or file:
        output.summary(report)
    raise typer.Exit(document.exit_code)
