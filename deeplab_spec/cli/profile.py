"""``deeplab-spec profile``: the time of every block in a step."""

import os
from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.capture.candidate.start import HERE
from deeplab_spec.cli import options, output
from deeplab_spec.cli.target_check import check_targets
from deeplab_spec.spec.api import read_arguments
from deeplab_spec.spec.choices import read_overrides
from deeplab_spec.spec.network import DEFAULT_CLASSES, DEFAULT_OUTPUT_STRIDE
from deeplab_spec.spec.variants import family_of


def profile(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="The network: MODULE:CALLABLE that builds it, reference:VARIANT, or a file (.pt2, .onnx).",
            show_default=False,
        ),
    ] = "",
    *,
    directory: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Directory for profile.json, index.html and the traces."),
    ] = None,
    variant: Annotated[
        str | None,
        options.variant_option(f"The published network with its blocks: {options.SOME_VARIANTS}. [the nearest]"),
    ] = None,
    choose: options.Choose = None,
    output_stride: options.OutputStride = DEFAULT_OUTPUT_STRIDE,
    classes: options.Classes = DEFAULT_CLASSES,
    size: options.Size = None,
    arg: options.Arguments = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Images per step.")] = 1,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Timed steps.")] = 10,
    warmup: Annotated[int, typer.Option("--warmup", metavar="N", help="Steps before them.")] = 3,
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu or cuda.")] = "cpu",
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            metavar="MODE",
            help="eager, or parts of bench joined by +: those that rewrite the network or change its precision.",
        ),
    ] = "eager",
    direction: Annotated[
        Mode, typer.Option("--direction", help="A forward pass, or both passes of a training step (in eager only).")
    ] = Mode.FORWARD,
    ceilings: Annotated[
        bool, typer.Option("--ceilings/--no-ceilings", help="Measure the ceilings of the device, for the roofline.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document too.")] = False,
    json_schema: options.Schema = False,
) -> None:
    """Profile a network, block by block, with traces.

    DIR/tensorboard is for TensorBoard with torch-tb-profiler. DIR/trace.json, the source of the times,
    opens in Perfetto (ui.perfetto.dev, "Open trace file") and in any other viewer of Chrome traces.

    Use bench or optimize to check that a mode computes the same as the network.
    """
    from deeplab_spec.profile.document import FILE, ProfileDocument
    from deeplab_spec.views.document import to_json, written_together

    if json_schema:
        output.schema(ProfileDocument)
    if not target:
        raise typer.BadParameter("name a network to profile", param_hint="TARGET")
    if directory is None:
        raise typer.BadParameter("name a directory for the reports", param_hint="--output")
    check_targets(HERE, target)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch is loaded: its messages disturb the progress bar
    from deeplab_spec.profile.request import ProfileRequest

    request = ProfileRequest(
        target=target,
        variant=variant,
        overrides=read_overrides(choose or (), family_of(target)),
        arguments=read_arguments(arg),
        output_stride=output_stride,
        classes=classes,
        size=options.read_size(size or options.DEFAULT_SIZE),
        batch=batch,
        steps=steps,
        warmup=warmup,
        device=device,
        direction=direction,
        mode=mode,
        ceilings=ceilings,
    )
    from deeplab_spec.profile.service import profile as run
    from deeplab_spec.profile.text import profile_grid, profile_html, profile_summary
    from deeplab_spec.views.progress import progress

    with written_together(directory) as folder:
        with progress() as report:
            document = run(request, folder, report)
        output.report(to_json(document), folder / FILE)
        output.report(profile_html(document), folder / "index.html")
    if as_json:
        output.report(to_json(document))
    else:
        output.table(profile_grid(document))
    output.summary(profile_summary(document))
