"""``certify --matrix``: certificates of many targets, as one report with one exit status."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NoReturn

import typer

from deeplab_spec.cli import output
from deeplab_spec.cli.fleet import Fleet
from deeplab_spec.errors import SpecError
from deeplab_spec.pieces.folder import Folder, cache_folder
from deeplab_spec.pieces.plan import Plan
from deeplab_spec.views.progress import progress

_OWN: Final = frozenset(
    ("matrix", "shard", "pieces", "costs", "ray", "piece_cpus", "piece_gpus", "again", "report", "as_json", "file")
)
"""The options that go with ``--matrix``; the others stand in its file."""


def certify_matrix(
    context: typer.Context,
    fleet: Fleet,
    path: Path,
    report: Path | None,
    file: Path | None,
    *,
    again: bool,
    as_json: bool,
) -> NoReturn:
    """Judge the cells of a file that are not finished, and write the report.

    Args:
        context: The command, whose other options are refused.
        fleet: Which cells, and where.
        path: The file.
        report: The folder of a report; None for none.
        file: Where the text goes; None for stdout.
        again: Whether finished cells are judged again.
        as_json: Whether it is the JSON document.

    Raises:
        SpecError: If an option does not go with a file, or the file is wrong.
    """
    for name in context.params.keys() - _OWN:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            shown = "TARGET" if name == "target" else f"--{name.replace('_', '-')}"
            raise SpecError(shown, f"must stand in {path} with --matrix", "an option")
    from deeplab_spec.evidence.service import check_folder
    from deeplab_spec.matrix import service
    from deeplab_spec.matrix.text import FORMS
    from deeplab_spec.views.document import writer_of

    writer_of(file, FORMS, as_json=as_json)
    check_folder(report)
    plan = service.planned(path)
    if fleet.folder is None:
        kept = cache_folder() / f"matrix-{sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
        fleet = replace(fleet, folder=Folder(kept))
        Folder(kept).adopt(plan)
    if again:
        fleet.forget()
    with progress() as show:
        results = fleet.run(plan, service.judge_here, service.judge_cell, show, service.could_not_run)
    fleet.end_of_shard(results)
    finish(plan, results, report, file, as_json=as_json)


def finish(
    plan: Plan, results: Mapping[str, Any], report: Path | None, file: Path | None, *, as_json: bool
) -> NoReturn:
    """Write the report of a matrix, and end with its exit status.

    Args:
        plan: The run.
        results: The results of its cells by name.
        report: The folder of a report; None for none.
        file: Where the text goes; None for stdout.
        as_json: Whether it is the JSON document.
    """
    from deeplab_spec.matrix import service
    from deeplab_spec.matrix.text import FORMS, headline
    from deeplab_spec.views.document import writer_of, written_together

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
