"""``deeplab-spec port``: moves weights from one implementation to another, and proves the results equal."""

from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.cli import options, output
from deeplab_spec.cli.options import ChooseOption, ClassesOption, OutputStrideOption, SchemaOption, read_arguments
from deeplab_spec.spec.choices import read_overrides
from deeplab_spec.spec.network import DEFAULT_CLASSES, DEFAULT_OUTPUT_STRIDE
from deeplab_spec.views.progress import progress

_TARGET = "MODULE:CALLABLE, reference:VARIANT, or a file that other commands take"
_ARGUMENT = "{output_stride} and {classes} are filled in; repeat for several."


def port(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help=f"What has the weights: {_TARGET}.", show_default=False)
    ] = "",
    dest: Annotated[str, typer.Argument(metavar="DEST", help="What gets them, likewise.", show_default=False)] = "",
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.safetensors",
            help="The destination's state dict, under its own names; an existing file is replaced.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Load this state dict into the source first: .safetensors, or .pt or .pth of plain tensors.",
        ),
    ] = None,
    choose: ChooseOption = None,
    source_choose: Annotated[
        list[str] | None,
        typer.Option("--source-choose", metavar="NAME=VALUE", help="As --choose, of the source alone."),
    ] = None,
    dest_choose: Annotated[
        list[str] | None,
        typer.Option("--dest-choose", metavar="NAME=VALUE", help="As --choose, of the destination alone."),
    ] = None,
    output_stride: OutputStrideOption = DEFAULT_OUTPUT_STRIDE,
    classes: ClassesOption = DEFAULT_CLASSES,
    source_arg: Annotated[
        list[str] | None,
        typer.Option("--source-arg", metavar="NAME=VALUE", help=f"Argument of what builds the source; {_ARGUMENT}"),
    ] = None,
    dest_arg: Annotated[
        list[str] | None,
        typer.Option("--dest-arg", metavar="NAME=VALUE", help="Argument of what builds the destination, likewise."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="HxW", help="Size of the image. [one that both accept and that shows rates]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the images.")] = 0,
    parameters: Annotated[bool, typer.Option("--map", help="Print where every tensor comes from, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document.")] = False,
    json_schema: SchemaOption = False,
) -> None:
    """Move weights from SOURCE to DEST, and prove the results equal.

    They are moved by structure, never by name, and nothing is written before the proof.

    Exit status: 0 written; 1 not proven equal, and nothing is written; 2 the arguments do not say what to do; 3 a
    network cannot be built or read, or a file not read or written.
    """
    from deeplab_spec.port.document import PortDocument
    from deeplab_spec.port.text import map_grid, port_text
    from deeplab_spec.views.document import to_json, to_schema

    if json_schema:
        output.report(to_schema(PortDocument))
        return
    if not source or not dest:
        raise typer.BadParameter("name two networks", param_hint="SOURCE DEST")
    if file is None:
        raise typer.BadParameter("say where to write the weights", param_hint="--output")
    from deeplab_spec.capture.target import REFERENCE, Target
    from deeplab_spec.port.service import PortRequest
    from deeplab_spec.port.service import port as move

    def target(name: str, chosen: list[str] | None, given: list[str] | None) -> Target:
        is_reference = name.partition(":")[0] == REFERENCE
        if chosen and not is_reference:
            raise typer.BadParameter(f"decides choices of a reference, not of {name}", param_hint="--choose")
        overrides = read_overrides((*(choose or ()), *(chosen or ())))
        return Target(name=name, arguments=read_arguments(given), choices=overrides if is_reference else {})

    request = PortRequest(
        source=target(source, source_choose, source_arg),
        dest=target(dest, dest_choose, dest_arg),
        output=file,
        weights=weights,
        output_stride=output_stride,
        classes=classes,
        size=options.read_size(size) if size else None,
        seed=seed,
    )
    with progress() as show:
        document = move(request, lambda stage: show(stage, 0, 0))
    if as_json:
        output.report(to_json(document))
        output.summary(port_text(document).splitlines()[-1])
    else:
        output.report(port_text(document))
        if parameters:
            output.table(map_grid(document))
    raise typer.Exit(document.exit_code)
