"""``deeplab-spec profile``: where the time of a step goes, block by block."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.cli import options, output
from deeplab_spec.cli.options import (
    ArgumentOption,
    ChooseOption,
    ClassesOption,
    OutputStrideOption,
    SchemaOption,
    SizeOption,
)
from deeplab_spec.spec.choices import read_overrides
from deeplab_spec.spec.network import DEFAULT_CLASSES, DEFAULT_OUTPUT_STRIDE

if TYPE_CHECKING:
    from deeplab_spec.profile.document import ProfileDocument
    from deeplab_spec.profile.service import ProfileRequest


def profile(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="What builds the network: MODULE:CALLABLE, reference:VARIANT, or a file (.pt2, .onnx).",
            show_default=False,
        ),
    ] = "",
    *,
    directory: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where profile.json, index.html and the traces go."),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant",
            metavar="NAME",
            autocompletion=options.complete_variant,
            help=f"The published network whose blocks it has: {options.VARIANT_NAMES}. [the most alike]",
        ),
    ] = None,
    choose: ChooseOption = None,
    output_stride: OutputStrideOption = DEFAULT_OUTPUT_STRIDE,
    classes: ClassesOption = DEFAULT_CLASSES,
    size: SizeOption = options.DEFAULT_SIZE,
    arg: ArgumentOption = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Images per step.")] = 1,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Steps that count.")] = 10,
    warmup: Annotated[int, typer.Option("--warmup", metavar="N", help="Steps before them.")] = 3,
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu or cuda.")] = "cpu",
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            metavar="MODE",
            help="eager, or parts joined by +, as bench names them: those that rewrite the network or change its "
            "precision.",
        ),
    ] = "eager",
    direction: Annotated[
        Mode, typer.Option("--direction", help="An evaluation, or a training step's two passes (in eager only).")
    ] = Mode.FORWARD,
    ceilings: Annotated[
        bool, typer.Option("--ceilings/--no-ceilings", help="Measure what the device can do at most, for the roofline.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document too.")] = False,
    json_schema: SchemaOption = False,
) -> None:
    """Profile a network, block by block, with traces.

    DIR/tensorboard is for TensorBoard with torch-tb-profiler; DIR/trace.json, which the times come from,
    opens in Perfetto (ui.perfetto.dev, "Open trace file") and in any other viewer of Chrome traces.

    Whether a mode computes what the network computes is decided by bench and optimize, not here.
    """
    from deeplab_spec.profile.document import FILE, ProfileDocument
    from deeplab_spec.views.document import to_schema

    if json_schema:
        output.report(to_schema(ProfileDocument))
        return
    if not target:
        raise typer.BadParameter("say what to profile", param_hint="TARGET")
    if directory is None:
        raise typer.BadParameter("say where the reports go", param_hint="--output")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch is loaded: it writes into the progress
    from deeplab_spec.profile.service import ProfileRequest

    request = ProfileRequest(
        target=target,
        variant=variant,
        overrides=read_overrides(choose or ()),
        arguments=options.read_arguments(arg),
        output_stride=output_stride,
        classes=classes,
        size=options.read_size(size),
        batch=batch,
        steps=steps,
        warmup=warmup,
        device=device,
        direction=direction,
        mode=mode,
        ceilings=ceilings,
    )
    document = _run(request, directory)
    from deeplab_spec.profile.text import profile_grid, profile_html, profile_summary

    output.report(document.model_dump_json(indent=2), directory / FILE)
    output.report(profile_html(document), directory / "index.html")
    if as_json:
        output.report(document.model_dump_json(indent=2))
    else:
        output.table(profile_grid(document))
    output.summary(profile_summary(document))


def _run(request: "ProfileRequest", directory: Path) -> "ProfileDocument":
    """Profile, with a progress bar where stderr is a terminal."""
    from deeplab_spec.profile.service import profile as run

    if not sys.stderr.isatty():
        return run(request, directory)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("building", total=None)

        def progress(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total)

        return run(request, directory, progress)
