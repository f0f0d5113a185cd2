"""``deeplab-spec certify``: checks an implementation, clause by clause."""

from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.cli import output
from deeplab_spec.cli.fleet import Fleet
from deeplab_spec.cli.matrix import certify_matrix
from deeplab_spec.cli.options import (
    DEFAULT_TIMEOUT,
    SOME_VARIANTS,
    ArgumentOption,
    ChooseOption,
    CostsOption,
    MemoryOption,
    PieceCpusOption,
    PieceGpusOption,
    PiecesOption,
    PythonOption,
    RayOption,
    SchemaOption,
    SearchOption,
    ShardOption,
    TargetArgument,
    TargetClassesOption,
    TargetStridesOption,
    TimeoutOption,
    TodayOption,
    WaiversOption,
    complete_variant,
    process_settings,
)
from deeplab_spec.cli.target_check import check_targets
from deeplab_spec.errors import SpecError, require_torch
from deeplab_spec.evidence.service import check_folder, form_of, write_report
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.request import DEVICES, DTYPES, HOW, request_from
from deeplab_spec.judge.statement import text_of
from deeplab_spec.judge.text import MOST_FINDINGS, text
from deeplab_spec.judge.waivers import apply_waivers, waivers_from
from deeplab_spec.precision import NAMES
from deeplab_spec.spec.api import read_arguments
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.network import PARTS
from deeplab_spec.views.progress import progress

_LONG = 10.0
"""Seconds of a judgement after which a quicker one is suggested."""


def certify(
    context: typer.Context,
    target: TargetArgument = "",
    *,
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant",
            metavar="NAME",
            autocompletion=complete_variant,
            help=f"The published network that it must match: {SOME_VARIANTS}. A reference matches itself by default.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="OTHER", help="Another target, or a .lock file, that it must match instead."),
    ] = None,
    choose: ChooseOption = None,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="PART", help=f"The target is only a part of the network: {', '.join(PARTS)}."),
    ] = None,
    output_stride: TargetStridesOption = None,
    classes: TargetClassesOption = None,
    arg: ArgumentOption = None,
    against_arg: Annotated[
        list[str] | None, typer.Option("--against-arg", metavar="NAME=VALUE", help="As --arg, for the other target.")
    ] = None,
    level: Annotated[
        list[Level] | None, typer.Option("--level", help="Decide only this level; repeat for several. [all]")
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(
            "--dtype",
            metavar="DTYPE",
            help=f"Precision of the numerics: {', '.join(NAMES)}; repeat for several. {HOW}. [{' and '.join(DTYPES)}]",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help=f"The device that runs it: {' or '.join(DEVICES)}.")
    ] = "cpu",
    waivers: WaiversOption = None,
    accept_waivers: Annotated[
        bool, typer.Option("--accept-waivers", help="Exit with 0 if all clauses passed or are waived.")
    ] = False,
    today: TodayOption = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the weights and images.")] = 0,
    python: PythonOption = None,
    search: SearchOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    memory: MemoryOption = 0.0,
    statement: Annotated[
        Path | None,
        typer.Option("--statement", metavar="FILE.json", help="Write an in-toto statement too, for verify and sign."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="DIR",
            help="Write everything: a page, the statement, JUnit, a summary and annotations for GitHub, a badge.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List every finding, and not some of each kind.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it to a file: .txt, .json, .md or .html. [stdout]"),
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option("--matrix", metavar="FILE.toml", help="Check the targets of a file, and continue an earlier run."),
    ] = None,
    shard: ShardOption = None,
    pieces: PiecesOption = None,
    costs: CostsOption = None,
    ray: RayOption = None,
    piece_cpus: PieceCpusOption = 1.0,
    piece_gpus: PieceGpusOption = 0.0,
    again: Annotated[bool, typer.Option("--again", help="With --matrix: start again.")] = False,
    json_schema: SchemaOption = False,
) -> None:
    """Check an implementation, clause by clause.

    It is compared with a published network, or with another target.

    Exit status: 0 conforms; 1 deviates, or conforms with waivers that are not accepted; 2 the arguments or the
    waivers are wrong; 3 the target cannot be built; 4 a clause is undecided. Of a matrix: the first of 3, 1, 4, 0 that
    a target has.
    """
    if json_schema:
        from deeplab_spec.views.document import to_schema

        output.report(to_schema(Certificate), file)
        return
    if matrix or shard or pieces or ray or again:
        if matrix is None:
            raise SpecError("--matrix", "must come with --shard, --pieces, --ray and --again", matrix)
        require_torch("certify")
        fleet = Fleet.of(shard, pieces, costs, ray, piece_cpus, piece_gpus)
        certify_matrix(context, fleet, matrix, report, file, again=again, as_json=as_json)
    if not target:
        raise typer.BadParameter("name the network to check", param_hint="TARGET")
    write = form_of(file, as_json=as_json, most=None if everything else MOST_FINDINGS)
    check_folder(report)
    require_torch("certify")
    accepted = waivers_from(waivers, today=today.date() if today else None)
    request = request_from(
        target,
        variant=variant,
        against=against,
        overrides=choose or (),
        arguments=read_arguments(arg),
        against_arguments=read_arguments(against_arg, "--against-arg"),
        part=part,
        output_strides=output_stride or (),
        classes=classes,
        levels=level or None,
        dtypes=dtype or None,
        device=device,
        seed=seed,
        prefix="--",
    )
    settings = process_settings(python, search, timeout, memory)
    check_targets(settings, target, against)
    from deeplab_spec.judge.judge import run

    with progress() as show:
        certificate = apply_waivers(run(request, show, settings), accepted, accepted=accept_waivers)
    if statement:
        output.report(text_of(certificate), statement)
    if report:
        write_report(certificate, report)
    output.report(write(certificate), file)
    if as_json or file:
        output.summary(text(certificate).splitlines()[-1])
    if advice := quick_round(certificate):
        output.summary(advice)
    raise typer.Exit(certificate.exit_code)


def quick_round(certificate: Certificate) -> str:
    """Return how to repeat what failed first in less time; empty if that would not be quicker."""
    failed = next((level for level, verdict in certificate.levels.items() if verdict is Verdict.FAILED), "")
    if not failed or len(certificate.levels) == 1 or certificate.seconds < _LONG:
        return ""
    return f"for quick rounds while you change it: --level {failed}; all levels at the end"
