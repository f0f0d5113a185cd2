"""``deeplab-spec compare``: the change of every block between two profiles."""

from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Annotated, Literal

import typer

from deeplab_spec.cli import options, output
from deeplab_spec.result import ExitCode
from deeplab_spec.views.document import to_json

_EXIT = {"within": ExitCode.DONE, "over": ExitCode.DIFFERENT, "undecided": ExitCode.UNDECIDED}


class Format(StrEnum):
    """The formats of a comparison."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JSON = "json"
    CSV = "csv"
    HTML = "html"


class Clock(StrEnum):
    """Whose time is compared."""

    HOST = "host"
    DEVICE = "device"


def compare(
    before: Annotated[
        Path | None, typer.Argument(metavar="A", help="A profile: its directory, or its JSON.", show_default=False)
    ] = None,
    after: Annotated[
        Path | None, typer.Argument(metavar="B", help="The profile to compare with it.", show_default=False)
    ] = None,
    *,
    clock: Annotated[
        Clock | None, typer.Option("--clock", help="Compare this time. [the device's, if there is one]")
    ] = None,
    fail_over: Annotated[
        float | None,
        typer.Option("--fail-over", metavar="PCT", help="Fail if the total is slower by more percent than this."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="The format of the report.")] = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document: --format json.")] = False,
    file: options.Output = None,
    json_schema: options.Schema = False,
) -> None:
    """Compare two profiles block by block.

    The profiles may be of two implementations, or of two modes. A change whose 95 % interval contains zero is within
    the noise; the first line has the number of changes that exceed it.

    Exit status: 0 compared, and not slower than allowed; 1 slower than --fail-over allows; 2 the profiles cannot be
    compared; 3 a profile cannot be read; 4 the interval of the slowdown contains the limit of --fail-over.
    """
    import deeplab_spec.profile.compare_text as pages
    from deeplab_spec.profile.compare import compare as compared
    from deeplab_spec.profile.document import CompareDocument, read_profile

    if json_schema:
        output.schema(CompareDocument, file)
    if before is None or after is None:
        raise typer.BadParameter("name two profiles", param_hint="A B")
    if fail_over is not None and not isfinite(fail_over):
        raise typer.BadParameter("must be a number of percent", param_hint="--fail-over")
    name: Literal["host", "device"] | None = clock.value if clock else None
    document = compared(read_profile(before), read_profile(after), name, fail_over)
    words = {
        Format.JSON: to_json,
        Format.MARKDOWN: pages.compare_markdown,
        Format.CSV: pages.compare_csv,
        Format.HTML: pages.compare_html,
    }
    if write := words.get(Format.JSON if as_json else form):
        output.report(write(document), file)
    else:
        output.table(pages.compare_grid(document), file, pages.compare_heading(document))
    output.summary(pages.compare_summary(document))
    if document.limit:
        raise typer.Exit(_EXIT[document.limit.verdict])
