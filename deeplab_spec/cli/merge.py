"""``deeplab-spec merge``: puts the shards of a run together."""

from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.cli import certify, mutants, options, output
from deeplab_spec.errors import require_torch


def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="The folders of --pieces of all shards.")],
    *,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Also write the report, as the run does.")
    ] = None,
    as_json: options.Json = False,
    file: options.Output = None,
) -> None:
    """Put the shards of a run together.

    Every piece must be there once. It writes the same bytes as the run in one piece, and prints how long the shards
    took.

    Exit status: that of the run; 2 a shard is lost, there twice, or of another run.
    """
    require_torch("merge")
    from deeplab_spec.pieces.folder import balance, merged

    plan, results = merged(folders)
    output.summary(balance(plan, folders))
    finish = mutants.finish if plan.command == "mutants" else certify.finish_matrix
    finish(plan, results, report, file, as_json=as_json)
