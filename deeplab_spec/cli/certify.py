"""``deeplab-spec certify``: decides every clause for one implementation."""

from typing import Annotated

import typer

from deeplab_spec.cli import output
from deeplab_spec.cli.options import (
    VARIANT_NAMES,
    ArgumentOption,
    ChooseOption,
    OutputOption,
    SchemaOption,
    TodayOption,
    WaiversOption,
    complete_variant,
    read_arguments,
)
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.request import DEVICES, DTYPES, HOW, Request, default_variant, read_dtypes
from deeplab_spec.judge.text import text
from deeplab_spec.judge.waivers import apply_waivers, load_waivers
from deeplab_spec.precision import NAMES
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.network import PARTS
from deeplab_spec.spec.variants import VARIANTS
from deeplab_spec.views.progress import progress


def _complete_target(incomplete: str) -> list[str]:
    references = [f"reference:{entry.name}" for entry in VARIANTS]
    return [reference for reference in references if reference.startswith(incomplete)]


def certify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            autocompletion=_complete_target,
            help="What builds the network: MODULE:CALLABLE, reference:VARIANT, or a file (.pt2, .onnx).",
            show_default=False,
        ),
    ] = "",
    *,
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant",
            metavar="NAME",
            autocompletion=complete_variant,
            help=f"The published network that it shall be: {VARIANT_NAMES}. A reference is by default itself.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="OTHER", help="Another target, or a file of lock, that it shall equal instead."
        ),
    ] = None,
    choose: ChooseOption = None,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="PART", help=f"The part that it implements: {', '.join(PARTS)}."),
    ] = None,
    output_stride: Annotated[
        list[int] | None,
        typer.Option(
            "--output-stride",
            metavar="N",
            help="Judge it at this output stride; repeat for several. [16; of a file: its own]",
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option("--classes", metavar="N", help="Channels of the logits. [21; of a file: its own]"),
    ] = None,
    arg: ArgumentOption = None,
    against_arg: Annotated[
        list[str] | None, typer.Option("--against-arg", metavar="NAME=VALUE", help="As --arg, for the other target.")
    ] = None,
    level: Annotated[
        list[Level] | None, typer.Option("--level", help="Decide this level only; repeat for several. [all]")
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(
            "--dtype",
            metavar="DTYPE",
            help=f"Precision of the numerics, {', '.join(NAMES)}; repeat for several. {HOW}. {list(DTYPES)}",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help=f"Where it runs: {' or '.join(DEVICES)}.")
    ] = "cpu",
    waivers: WaiversOption = None,
    accept_waivers: Annotated[
        bool, typer.Option("--accept-waivers", help="Exit with 0 where everything but what is waived passed.")
    ] = False,
    today: TodayOption = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of weights and images.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """Decide every clause for one implementation.

    Exit status: 0 it conforms, 1 it deviates, or conforms with waivers that are not accepted, 2 the arguments or
    the waivers are wrong, 3 it cannot be built, 4 something is undecided.
    """
    if json_schema:
        from deeplab_spec.views.document import to_schema

        output.report(to_schema(Certificate), file)
        return
    if not target:
        raise typer.BadParameter("say what to judge", param_hint="TARGET")
    from deeplab_spec.judge.candidate.runner import run

    held = load_waivers(waivers, today.date() if today else None) if waivers else None
    request = Request(
        target=target,
        variant=None if against else variant or default_variant(target),
        against=against,
        against_arguments=read_arguments(against_arg),
        overrides=tuple(choose or ()),
        arguments=read_arguments(arg),
        shared_choices=variant is None and against is None,
        part=part,
        output_strides=tuple(dict.fromkeys(output_stride or ())),
        classes=classes,
        levels=tuple(dict.fromkeys(level or tuple(Level))),
        dtypes=read_dtypes(dtype or DTYPES, "--dtype"),
        device=device,
        seed=seed,
    )
    with progress() as told:
        certificate = apply_waivers(run(request, told), held, accepted=accept_waivers)
    output.report(certificate.model_dump_json(indent=2) if as_json else text(certificate), file)
    if as_json or file:
        output.summary(text(certificate).splitlines()[-1])
    raise typer.Exit(certificate.exit_code)
