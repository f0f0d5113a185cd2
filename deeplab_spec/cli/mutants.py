"""``deeplab-spec mutants``: measures how many wrong networks the judge rejects."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.cli import output
from deeplab_spec.cli.options import JsonOption, OutputOption, SchemaOption, complete_variant
from deeplab_spec.result import ExitCode
from deeplab_spec.views.progress import progress


def mutants(
    *,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="NAME",
            autocompletion=complete_variant,
            help="Judge mutants of this network; repeat for several. [notebook and tf-release]",
        ),
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
    as_json: JsonOption = False,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """Judge thousands of wrong networks, and hundreds of equal ones.

    Every level must reject each wrong network that it can see, without the other levels; none may reject an equal one.

    An interrupted run continues where it stopped, unless the code of the judge has changed.

    Exit status: 0 all wrong networks are rejected and all equal ones accepted; 1 otherwise.
    """
    from deeplab_spec.strength.document import MutantsDocument
    from deeplab_spec.views.document import to_json, to_schema, written_together

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
    with progress() as show:
        document = run(request, show)
    if report:
        with written_together(report) as folder:
            output.report(to_json(document), folder / "mutants.json")
            output.report(texts.page(document, shlex.join(["deeplab-spec", *sys.argv[1:]])), folder / "mutants.md")
    output.report(to_json(document) if as_json else texts.text(document), file)
    if as_json or file:
        output.summary(texts.headline(document))
    rejected = document.rewrites is not None and document.rewrites.rejected
    raise typer.Exit(ExitCode.DIFFERENT if document.survivors or rejected else ExitCode.DONE)
