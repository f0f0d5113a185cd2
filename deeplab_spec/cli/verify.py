"""``deeplab-spec verify``: checks a certificate."""

from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.cli import options, output
from deeplab_spec.views.progress import progress


def verify(
    certificate: Annotated[
        str,
        typer.Argument(
            metavar="CERTIFICATE", help="The file that certify --statement wrote, or its bundle.", show_default=False
        ),
    ] = "",
    *,
    artefact: Annotated[
        Path | None, typer.Option("--artefact", metavar="FILE", help="The file of the network that it must certify.")
    ] = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Make it again from its seed, and compare: this runs the target.")
    ] = False,
    identity: Annotated[
        str, typer.Option("--identity", metavar="WHO", help="Who must have signed it: a mail address, or a workflow.")
    ] = "",
    issuer: Annotated[str, typer.Option("--issuer", metavar="URL", help="Who must vouch for that identity.")] = "",
    python: options.Python = None,
    search: options.Search = None,
    timeout: options.Timeout = options.DEFAULT_TIMEOUT,
    memory: options.Memory = 0.0,
    as_json: options.Json = False,
    file: options.Output = None,
    json_schema: options.Schema = False,
) -> None:
    """Check a certificate, offline and without torch.

    What it certifies is not run.

    With --rerun it is made again: every field must be the same, but times and the last digits of errors.

    Exit status: 0 verified; 1 refused: it contradicts itself, the specification, the file or the new run; 2 the
    arguments are wrong; 3 a file cannot be read, or the target cannot be built.
    """
    from deeplab_spec.verify.document import VerifyDocument

    if json_schema:
        output.schema(VerifyDocument, file)
    if not certificate:
        raise typer.BadParameter("name the certificate", param_hint="CERTIFICATE")
    from deeplab_spec.verify.service import verify as check

    settings = options.process_settings(python, search, timeout, memory)
    with progress() as show:
        document = check(
            Path(certificate), artefact, rerun=rerun, identity=identity, issuer=issuer, process=settings, progress=show
        )
    output.document(document, document.text, document.summary, file, as_json=as_json)
    raise typer.Exit(document.exit_code)
