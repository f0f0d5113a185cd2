"""``deeplab-spec certify``: checks an implementation, clause by clause."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from deeplab_spec.cli import options, output
from deeplab_spec.cli.fleet import Fleet
from deeplab_spec.cli.target_check import ready
from deeplab_spec.errors import SpecError, require_torch
from deeplab_spec.evidence.service import check_folder, form_of, write_report
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.request import DEVICES, DTYPES, HOW, request_from
from deeplab_spec.judge.statement import text_of
from deeplab_spec.judge.text import MOST_FINDINGS, text
from deeplab_spec.judge.waivers import apply_waivers, waivers_from
from deeplab_spec.pieces.plan import Plan
from deeplab_spec.precision import NAMES
from deeplab_spec.spec.api import read_arguments
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.network import PARTS
from deeplab_spec.views.document import writer_of, written_together
from deeplab_spec.views.progress import progress

_LONG = 10.0
"""Seconds of a judgement after which a quicker one is suggested."""
_OWN: Final = frozenset(
    ("matrix", "shard", "pieces", "costs", "ray", "piece_cpus", "piece_gpus", "again", "report", "as_json", "file")
)
"""The options that go with ``--matrix``; the others stand in its file."""


def certify(
    context: typer.Context,
    target: options.Target = "",
    *,
    variant: Annotated[
        str | None,
        options.variant_option(
            f"The published network that it must match: {options.SOME_VARIANTS}. A reference matches itself by default."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="OTHER", help="Another target, or a .lock file, that it must match instead."),
    ] = None,
    choose: options.Choose = None,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="PART", help=f"The target is only a part of the network: {', '.join(PARTS)}."),
    ] = None,
    output_stride: options.TargetStrides = None,
    classes: options.TargetClasses = None,
    arg: options.Arguments = None,
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
    waivers: options.Waivers = None,
    accept_waivers: Annotated[
        bool, typer.Option("--accept-waivers", help="Exit with 0 if all clauses passed or are waived.")
    ] = False,
    today: options.Today = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the weights and images.")] = 0,
    python: options.Python = None,
    search: options.Search = None,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = 0.0,
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
    shard: options.Shard = None,
    pieces: options.Pieces = None,
    costs: options.Costs = None,
    ray: options.Ray = None,
    piece_cpus: options.PieceCpus = 1.0,
    piece_gpus: options.PieceGpus = 0.0,
    again: Annotated[bool, typer.Option("--again", help="With --matrix: start again.")] = False,
    json_schema: options.Schema = False,
) -> None:
    """Check an implementation, clause by clause.

    It is compared with a published network, or with another target.

    Exit status: 0 conforms; 1 deviates, or conforms with waivers that are not accepted; 2 the arguments or the
    waivers are wrong; 3 the target cannot be built; 4 a clause is undecided. Of a matrix: the first of 3, 1, 4, 0 that
    a target has.
    """
    if json_schema:
        output.schema(Certificate, file)
    if matrix or shard or pieces or ray or again:
        if matrix is None:
            raise SpecError("--matrix", "must come with --shard, --pieces, --ray and --again", matrix)
        require_torch("certify")
        fleet = Fleet.of(shard, pieces, costs, ray, piece_cpus, piece_gpus)
        _certify_matrix(context, fleet, matrix, report, file, again=again, as_json=as_json)
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
    settings = ready(context, options.process_settings(python, search, timeout, memory), target, against)
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


def _certify_matrix(
    context: typer.Context,
    fleet: Fleet,
    path: Path,
    report: Path | None,
    file: Path | None,
    *,
    again: bool,
    as_json: bool,
) -> NoReturn:
    """Judge the cells of a file that are not finished, and write the report."""
    for name in context.params.keys() - _OWN:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            shown = "TARGET" if name == "target" else f"--{name.replace('_', '-')}"
            raise SpecError(shown, f"must stand in {path} with --matrix", "an option")
    from deeplab_spec.matrix import service
    from deeplab_spec.matrix.document import FORMS

    writer_of(file, FORMS, as_json=as_json)
    check_folder(report)
    plan = service.planned(path)
    fleet = fleet.in_cache(plan, "matrix", str(path.resolve()))
    if again:
        fleet.forget()
    with progress() as show:
        results = fleet.run(plan, service.judge_here, service.judge_cell, show, service.could_not_run)
    fleet.end_of_shard(results)
    finish_matrix(plan, results, report, file, as_json=as_json)


def finish_matrix(
    plan: Plan, results: Mapping[str, Any], report: Path | None, file: Path | None, *, as_json: bool
) -> NoReturn:
    """Write the report of a matrix, and end with its exit status."""
    from deeplab_spec.matrix import service
    from deeplab_spec.matrix.document import FORMS, headline

    document = service.summed(plan, results)
    write = writer_of(file, FORMS, as_json=as_json)
    if report:
        with written_together(report) as folder:
            for name in ("matrix.json", "report.html", "summary.md"):
                output.report(FORMS[Path(name).suffix](document), folder / name)
    output.report(write(document), file)
    if as_json or file:
        output.summary(headline(document))
    raise typer.Exit(document.exit_code)
