"""``deeplab-spec mutants``: how many wrong networks the judge refuses."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.cli import output
from deeplab_spec.cli.options import OutputOption, SchemaOption, complete_variant
from deeplab_spec.exit_codes import ExitCode
from deeplab_spec.views.progress import progress


def mutants(
    *,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="NAME",
            autocompletion=complete_variant,
            help="Judge the mutants of this network; repeat for several. [notebook and tf-release]",
        ),
    ] = None,
    output_stride: Annotated[
        list[int] | None,
        typer.Option("--output-stride", metavar="N", help="At this output stride; repeat for several. [8 and 16]"),
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", help="Judge so many drawn mutants of each network. [all]")
    ] = None,
    full_width: Annotated[
        int, typer.Option("--full-width", metavar="N", help="Judge so many drawn mutants at full width, too.")
    ] = 0,
    lower_every: Annotated[
        int, typer.Option("--lower-every", metavar="N", help="Try one in N in dtypes below float32, too.")
    ] = 10,
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", help="Processes that work at the same time. [one for each core]")
    ] = 0,
    again: Annotated[bool, typer.Option("--again", help="Begin anew: keep nothing of an earlier run.")] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of images, weights and samples.")] = 0,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="DIR", help="Also write mutants.json and its page, mutants.md, to DIR."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document.")] = False,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """Judge wrong networks by the thousand, and equal ones.

    Every level of the judge must refuse the wrong ones alone; none may refuse an equal one.

    A run that was stopped goes on where it was, unless the code that judges has changed.

    Exit status: 0 all wrong ones are refused and all equal ones accepted, 1 not so.
    """
    from deeplab_spec.strength.document import MutantsDocument
    from deeplab_spec.views.document import to_json, to_schema

    if json_schema:
        output.report(to_schema(MutantsDocument), file)
        return
    from deeplab_spec.strength import text as texts
    from deeplab_spec.strength.processes import journal_for
    from deeplab_spec.strength.service import MAIN, STRIDES, MutantsRequest
    from deeplab_spec.strength.service import mutants as run

    journal = journal_for((seed,))
    if again:
        journal.unlink(missing_ok=True)
    request = MutantsRequest(
        variants=tuple(dict.fromkeys(variant or MAIN)),
        output_strides=tuple(dict.fromkeys(output_stride or STRIDES)),
        sample=sample,
        full_width=full_width,
        lower_every=lower_every,
        processes=processes or os.cpu_count() or 1,
        journal=journal,
        seed=seed,
    )
    with progress() as told:
        document = run(request, told)
    if report:
        report.mkdir(parents=True, exist_ok=True)
        output.report(to_json(document), report / "mutants.json")
        output.report(texts.page(document, shlex.join(["deeplab-spec", *sys.argv[1:]])), report / "mutants.md")
    output.report(to_json(document) if as_json else texts.text(document), file)
    if as_json or file:
        output.summary(texts.headline(document))
    refused = document.rewrites is not None and document.rewrites.rejected
    raise typer.Exit(ExitCode.DIFFERENT if document.survivors or refused else ExitCode.DONE)
