"""``deeplab-spec identify``: finds the published network and the choices that a network implements."""

from typing import Annotated

import typer

from deeplab_spec.cli import options, output
from deeplab_spec.cli.target_check import ready
from deeplab_spec.errors import require_torch
from deeplab_spec.spec.api import read_arguments


def identify(
    context: typer.Context,
    target: options.Target = "",
    *,
    output_stride: options.TargetStrides = None,
    classes: options.TargetClasses = None,
    arg: options.Arguments = None,
    python: options.Python = None,
    search: options.Search = None,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = 0.0,
    everything: Annotated[bool, typer.Option("--all", help="List every difference, and not the first.")] = False,
    as_json: options.Json = False,
    file: options.Output = None,
    json_schema: options.Schema = False,
) -> None:
    """Find the nearest published network and its choices.

    Differences that no choice explains are listed node by node.

    Exit status: 0 choices explain every difference; 1 some differences are unexplained, or it is another network;
    3 the target cannot be built or read.
    """
    from deeplab_spec.identify.document import MOST_FINDINGS, IdentifyDocument, text

    if json_schema:
        output.schema(IdentifyDocument, file)
    if not target:
        raise typer.BadParameter("name the network to identify", param_hint="TARGET")
    require_torch("identify TARGET")
    process = ready(context, options.process_settings(python, search, timeout, memory), target)
    from deeplab_spec.capture.target import parse_target
    from deeplab_spec.identify.service import identify as identified

    document = identified(parse_target(target, read_arguments(arg), process), output_stride or (), classes)
    report = text(document, None if everything else MOST_FINDINGS)
    output.document(document, report, report, file, as_json=as_json)
    raise typer.Exit(document.exit_code)
