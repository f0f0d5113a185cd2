"""``deeplab-spec mutants``: measures how many wrong networks the judge rejects."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from deeplab_spec.cli import options, output
from deeplab_spec.cli.fleet import Fleet
from deeplab_spec.pieces.plan import Plan
from deeplab_spec.result import ExitCode
from deeplab_spec.views.document import canonical, to_json, written_together
from deeplab_spec.views.progress import progress


def mutants(
    *,
    variant: Annotated[
        list[str] | None,
        options.variant_option("Judge mutants of this network; repeat for several. [notebook and tf-release]"),
    ] = None,
    output_stride: Annotated[
        list[int] | None,
        typer.Option("--output-stride", metavar="N", help="Output stride; repeat for several. [8 and 16]"),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", metavar="N", help="Judge N mutants of each network, drawn at random. [all]"),
    ] = None,
    full_width: Annotated[
        int, typer.Option("--full-width", metavar="N", help="Also judge N mutants at full width, drawn at random.")
    ] = 0,
    lower_every: Annotated[
        int, typer.Option("--lower-every", metavar="N", help="Also judge one mutant in N in dtypes below float32.")
    ] = 10,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Build and run each network in a candidate's process, as certify does.")
    ] = False,
    processes: Annotated[
        int,
        typer.Option(
            "--processes", metavar="N", help="Number of parallel processes. [one per core]", show_default=False
        ),
    ] = 0,
    again: Annotated[bool, typer.Option("--again", help="Start again instead of continuing an earlier run.")] = False,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, max=2**63 - 1, help="Seed of images, weights and samples.")
    ] = 0,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="DIR", help="Also write mutants.json and its page, mutants.md, to DIR."),
    ] = None,
    shard: options.Shard = None,
    pieces: options.Pieces = None,
    costs: options.Costs = None,
    ray: options.Ray = None,
    piece_cpus: options.PieceCpus = 1.0,
    piece_gpus: options.PieceGpus = 0.0,
    as_json: options.Json = False,
    file: options.Output = None,
    json_schema: options.Schema = False,
) -> None:
    """Judge thousands of wrong networks, and hundreds of equal ones.

    Every level must reject each wrong network that it can see, without the other levels; none may reject an equal one.

    An interrupted run continues where it stopped, unless the code of the judge has changed.

    Exit status: 0 all wrong networks are rejected and all equal ones accepted, or the shard is done; 1 otherwise.
    """
    from deeplab_spec.strength.document import MutantsDocument

    if json_schema:
        output.schema(MutantsDocument, file)
    fleet = Fleet.of(shard, pieces, costs, ray, piece_cpus, piece_gpus)
    from deeplab_spec.strength import service
    from deeplab_spec.strength.processes import run_unit

    request = service.MutantsRequest(
        variants=tuple(dict.fromkeys(variant or service.MAIN)),
        output_strides=tuple(dict.fromkeys(output_stride or service.STRIDES)),
        sample=sample,
        full_width=full_width,
        lower_every=lower_every,
        processes=processes or os.cpu_count() or 1,
        seed=seed,
        isolated=isolated,
    )
    with progress() as show:
        plan = service.planned(request, show, None if again else fleet.known)
        fleet = fleet.in_cache(plan, "mutants", canonical(plan.options))
        if again:
            fleet.forget()
        results = fleet.run(plan, service.local(request), run_unit, show)
    fleet.end_of_shard(results)
    finish(plan, results, report, file, as_json=as_json)


def finish(plan: Plan, results: Mapping[str, Any], report: Path | None, file: Path | None, *, as_json: bool) -> None:
    """Write what the results of a run amount to, and end with its exit status."""
    from deeplab_spec.strength import service
    from deeplab_spec.strength import text as texts

    document = service.summed(plan, results)
    if report:
        with written_together(report) as folder:
            output.report(to_json(document), folder / "mutants.json")
            output.report(texts.page(document, service.command_of(plan)), folder / "mutants.md")
    output.document(document, texts.text(document), texts.headline(document), file, as_json=as_json)
    rejected = document.rewrites is not None and document.rewrites.rejected
    raise typer.Exit(ExitCode.DIFFERENT if document.survivors or rejected else ExitCode.DONE)
