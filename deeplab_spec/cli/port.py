"""``deeplab-spec port``: moves weights from one implementation to another, and proves the outputs equal."""

from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.cli import options, output
from deeplab_spec.cli.target_check import ready
from deeplab_spec.errors import SpecError
from deeplab_spec.spec.api import read_arguments
from deeplab_spec.spec.choices import read_overrides
from deeplab_spec.spec.network import DEFAULT_CLASSES, DEFAULT_OUTPUT_STRIDE
from deeplab_spec.spec.variants import REFERENCE, family_of
from deeplab_spec.views.progress import progress

_TARGET = "MODULE:CALLABLE that builds it, reference:VARIANT, or a file (.pt2, .onnx)"
_PARTS = ("backbone", "aspp")
"""Parts with one input, whose weights can be moved alone."""
_ARGUMENT = "{output_stride} and {classes} become their values; repeatable."


def port(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help=f"The network that has the weights: {_TARGET}.", show_default=False)
    ] = "",
    dest: Annotated[str, typer.Argument(metavar="DEST", help="The network that gets them.", show_default=False)] = "",
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.safetensors",
            help="File for the destination's state dict, with its own names; an existing file is replaced.",
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
    choose: options.Choose = None,
    source_choose: Annotated[
        list[str] | None,
        typer.Option("--source-choose", metavar="NAME=VALUE", help="As --choose, for the source only."),
    ] = None,
    dest_choose: Annotated[
        list[str] | None,
        typer.Option("--dest-choose", metavar="NAME=VALUE", help="As --choose, for the destination only."),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="PART",
            help="Move one part: backbone or aspp. A reference gives its part; a target is the part.",
        ),
    ] = None,
    output_stride: options.OutputStride = DEFAULT_OUTPUT_STRIDE,
    classes: options.Classes = DEFAULT_CLASSES,
    source_arg: Annotated[
        list[str] | None,
        typer.Option("--source-arg", metavar="NAME=VALUE", help=f"Argument of the source's builder; {_ARGUMENT}"),
    ] = None,
    dest_arg: Annotated[
        list[str] | None,
        typer.Option("--dest-arg", metavar="NAME=VALUE", help="Argument of the destination's builder, likewise."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="HxW", help="Size of the image. [one that both accept and shows every rate]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**63 - 1, help="Seed of the images.")] = 0,
    python: options.Python = None,
    search: options.Search = None,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = 0.0,
    parameters: Annotated[bool, typer.Option("--map", help="Also print the sources of every tensor.")] = False,
    as_json: options.Json = False,
    json_schema: options.Schema = False,
) -> None:
    """Move weights from SOURCE to DEST, and prove the outputs equal.

    Weights are moved by structure, never by name. Nothing is written before the proof.

    Exit status: 0 written; 1 not proven equal, nothing is written; 2 usage error; 3 a network cannot be built or read,
    or a file cannot be read or written.
    """
    from deeplab_spec.port.document import PortDocument
    from deeplab_spec.port.text import map_grid, port_text
    from deeplab_spec.views.document import to_json

    if json_schema:
        output.schema(PortDocument)
    if not source or not dest:
        raise typer.BadParameter("name two networks", param_hint="SOURCE DEST")
    if file is None:
        raise typer.BadParameter("name the file to write", param_hint="--output")
    if part and part not in _PARTS:
        raise SpecError("--part", f"must be one of {', '.join(_PARTS)}", part)
    if part and not any(name.startswith("reference:") for name in (source, dest)):
        output.summary(f"--part {part}: both targets are taken to be that part, and moved whole")
    process = ready(context, options.process_settings(python, search, timeout, memory), source, dest)
    from deeplab_spec.capture.target import Target
    from deeplab_spec.port.service import PortRequest
    from deeplab_spec.port.service import port as move

    def target(side: str, name: str, own_choices: list[str] | None, arguments: list[str] | None) -> Target:
        is_reference = name.partition(":")[0] == REFERENCE
        if own_choices and not is_reference:
            raise typer.BadParameter(f"applies to a reference, not to {name}", param_hint=f"--{side}-choose")
        family = family_of(name)
        overrides = read_overrides((*(choose or ()), *(own_choices or ())), family)
        return Target(
            name=name,
            arguments=read_arguments(arguments, f"--{side}-arg"),
            part=part if is_reference else None,
            choices=overrides if is_reference else {},
            process=process,
        )

    request = PortRequest(
        source=target("source", source, source_choose, source_arg),
        dest=target("dest", dest, dest_choose, dest_arg),
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
