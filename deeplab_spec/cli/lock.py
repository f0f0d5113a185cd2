"""``deeplab-spec lock``: records a network in a file, to compare later versions with it."""

from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.capture.candidate.start import LOCK
from deeplab_spec.cli import options, output
from deeplab_spec.cli.target_check import ready
from deeplab_spec.spec.api import read_arguments
from deeplab_spec.views.progress import progress


def lock(
    context: typer.Context,
    target: options.Target = "",
    *,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.lock", help="The file that is written.")
    ] = None,
    output_stride: Annotated[
        int | None,
        typer.Option("--output-stride", metavar="N", help="Output stride to build it with. [16; for a file: its own]"),
    ] = None,
    classes: options.TargetClasses = None,
    arg: options.Arguments = None,
    python: options.Python = None,
    search: options.Search = None,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = 0.0,
    as_json: options.Json = False,
    json_schema: options.Schema = False,
) -> None:
    """Record a network in a file, to compare later versions with it.

    The file holds its graph in normal form, its counts and its choices; certify --against FILE.lock compares.

    Exit status: 0 written; 3 the target cannot be built or read.
    """
    if json_schema:
        from deeplab_spec.lock.service import LockDocument

        output.schema(LockDocument)
    if not target:
        raise typer.BadParameter("name the network to lock", param_hint="TARGET")
    if file is None or file.suffix != LOCK:
        raise typer.BadParameter(f"name the file to write; it must end in {LOCK}", param_hint="--output")
    process = ready(context, options.process_settings(python, search, timeout, memory), target)
    from deeplab_spec.align import lock_file as lock_text
    from deeplab_spec.capture.target import parse_target
    from deeplab_spec.lock.service import lock_document, lock_target
    from deeplab_spec.views.document import to_json, write_whole

    named = parse_target(target, read_arguments(arg), process)
    with progress() as show:
        locked = lock_target(named, output_stride, classes, show)
    write_whole(file, lock_text.text(locked))
    document = lock_document(locked)
    if as_json:
        output.report(to_json(document))
    output.summary(f"{file}: {document.summary}")
