"""``deeplab-spec count``: counts the costs of a network."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from deeplab_spec.analysis.conventions import CONVENTIONS, MAC
from deeplab_spec.analysis.counters import EVERY, convention
from deeplab_spec.analysis.protocol import Protocol
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.cli import options, output
from deeplab_spec.cli.target_check import ready
from deeplab_spec.spec.api import read_arguments
from deeplab_spec.spec.network import DEFAULT_CLASSES, DEFAULT_OUTPUT_STRIDE
from deeplab_spec.views.progress import progress
from deeplab_spec.views.table import Grid

if TYPE_CHECKING:
    from pydantic import BaseModel

    from deeplab_spec.count.service import CountRequest


class By(StrEnum):
    """The rows of the table."""

    BLOCK = "block"
    NODE = "node"


def complete_convention(incomplete: str) -> list[tuple[str, str]]:
    """Return the conventions that complete a text, with their titles."""
    return [(entry.name, entry.title) for entry in EVERY if entry.name.startswith(incomplete)]


_GIVEN = ("COMMANDLINE", "ENVIRONMENT")
"""Sources of a value that the user gave."""
_NAMES = ", ".join(entry.name for entry in CONVENTIONS)


def count(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="The network: MODULE:CALLABLE that builds it, or a file (.pt2, .onnx). [the published network]",
            show_default=False,
        ),
    ] = None,
    *,
    variant: Annotated[
        str | None,
        options.variant_option(
            f"The published network: {options.SOME_VARIANTS}. The nodes of a target are named after it. "
            f"[{options.DEFAULT_VARIANT}; for a target: the nearest]"
        ),
    ] = None,
    choose: options.Choose = None,
    output_stride: options.OutputStride = DEFAULT_OUTPUT_STRIDE,
    size: options.Size = None,
    classes: options.Classes = DEFAULT_CLASSES,
    convention_name: Annotated[
        str,
        typer.Option(
            "--convention",
            metavar="NAME",
            autocompletion=complete_convention,
            help=f"What is counted: {_NAMES}, or a tool as thop.",
        ),
    ] = MAC.name,
    mode: Annotated[Mode, typer.Option("--mode", help="Count an evaluation, or a training step.")] = Mode.FORWARD,
    scales: Annotated[
        str, typer.Option("--scales", metavar="S,S,...", help="Evaluate at several scales: side d is int((d-1)*S+1).")
    ] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Also evaluate the mirrored image.")] = False,
    by: Annotated[By, typer.Option("--by", help="One row per block, or one per operation.")] = By.BLOCK,
    against: Annotated[
        str | None, typer.Option("--against", metavar="TARGET", help="Compare with another network.")
    ] = None,
    explain: Annotated[
        list[str] | None,
        typer.Option("--explain", metavar="FIGURES", help="Find what gives figures, as '62.7 M, 255.1 G'."),
    ] = None,
    arg: options.Arguments = None,
    python: options.Python = None,
    search: options.Search = None,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = 0.0,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="DIR", help="Write the cost reports of all published networks to DIR."),
    ] = None,
    as_json: options.Json = False,
    file: options.Output = None,
    json_schema: options.Schema = False,
) -> None:
    """Count parameters and operations, and compute receptive fields.

    Exit status: 0 done; 1 rows differ, or nothing explains the figures; 3 a target cannot be built or read.
    """
    from deeplab_spec.count import text
    from deeplab_spec.count.document import CountDocument
    from deeplab_spec.count.explain.document import ExplainDocument
    from deeplab_spec.count.service import CountRequest
    from deeplab_spec.count.side_by_side import SideBySideDocument

    if json_schema:
        model = SideBySideDocument if against else ExplainDocument if explain else CountDocument
        output.schema(model, file)
    if report:
        _write_reports(report)
        return
    request = CountRequest(
        variant=variant,
        overrides=tuple(choose or ()),
        arguments=read_arguments(arg),
        output_stride=output_stride,
        size=options.read_size(size or options.default_size(variant, output_stride)),
        classes=classes,
        convention=convention(convention_name),
        mode=mode,
        protocol=Protocol(scales=options.read_scales(scales), flip=flip),
        by_node=by is By.NODE,
    )
    request.convention.require(mode)
    settings = options.process_settings(python, search, timeout, memory)
    request = replace(request, process=ready(context, settings, target, against))
    if explain:
        _explain(request, target, " ; ".join(explain), _given(context), as_json, file)
    if against:
        both = request.side_by_side(target, against)
        _show(both, text.side_by_side_grid(both), text.side_by_side_summary(both), as_json, file)
        raise typer.Exit(both.exit_code)
    document = request.document(target)
    _show(
        document, text.count_grid(document), f"{request.title(target)}\n{text.count_summary(document)}", as_json, file
    )


def _given(context: typer.Context) -> frozenset[str]:
    """Return the names of the parameters that the user gave."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, source in sources.items() if source and source.name in _GIVEN)


def _explain(
    request: "CountRequest", target: str | None, figures: str, given: frozenset[str], as_json: bool, file: Path | None
) -> NoReturn:
    from deeplab_spec.count.explain.service import ExplainRequest
    from deeplab_spec.count.explain.text import explain_grid, explain_summary

    with progress() as show:
        document = ExplainRequest.of(request, figures, given).document(target, show)
    _show(document, explain_grid(document), explain_summary(document), as_json, file)
    raise typer.Exit(document.exit_code)


def _show(document: "BaseModel", grid: Grid, summary: str, as_json: bool, file: Path | None) -> None:
    from deeplab_spec.views.document import to_json

    if as_json:
        output.report(to_json(document), file)
    else:
        output.table(grid, file)
    output.summary(summary)


def _write_reports(directory: Path) -> None:
    from deeplab_spec.count.reports import write_reports

    with progress() as show:
        written = write_reports(directory, show)
    output.summary(f"{len(written)} files written to {directory}")
