"""``deeplab-spec identify``: finds the published network and the choices that a network implements."""

from typing import Annotated

import typer

from deeplab_spec.cli import output
from deeplab_spec.cli.options import (
    DEFAULT_TIMEOUT,
    ArgumentOption,
    JsonOption,
    MemoryOption,
    OutputOption,
    PythonOption,
    SchemaOption,
    SearchOption,
    TargetArgument,
    TargetClassesOption,
    TargetStridesOption,
    TimeoutOption,
    process_settings,
)
from deeplab_spec.cli.target_check import check_targets
from deeplab_spec.errors import require_torch
from deeplab_spec.spec.api import read_arguments


def identify(
    target: TargetArgument = "",
    *,
    output_stride: TargetStridesOption = None,
    classes: TargetClassesOption = None,
    arg: ArgumentOption = None,
    python: PythonOption = None,
    search: SearchOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    memory: MemoryOption = 0.0,
    everything: Annotated[bool, typer.Option("--all", help="List every difference, and not the first.")] = False,
    as_json: JsonOption = False,
    file: OutputOption = None,
    json_schema: SchemaOption = False,
) -> None:
    """Find the nearest published network and its choices.

    Differences that no choice explains are listed node by node.

    Exit status: 0 choices explain every difference; 1 some differences are unexplained, or it is another network;
    3 the target cannot be built or read.
    """
    from deeplab_spec.identify.document import MOST_FINDINGS, IdentifyDocument, text
    from deeplab_spec.views.document import to_json, to_schema

    if json_schema:
        output.report(to_schema(IdentifyDocument), file)
        return
    if not target:
        raise typer.BadParameter("name the network to identify", param_hint="TARGET")
    require_torch("identify TARGET")
    process = process_settings(python, search, timeout, memory)
    check_targets(process, target)
    from deeplab_spec.capture.target import parse_target
    from deeplab_spec.identify.service import identify as identified

    document = identified(parse_target(target, read_arguments(arg), process), output_stride or (), classes)
    report = text(document, None if everything else MOST_FINDINGS)
    output.report(to_json(document) if as_json else report, file)
    if as_json or file:
        output.summary(report)
    raise typer.Exit(document.exit_code)
