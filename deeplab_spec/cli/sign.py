"""``deeplab-spec sign``: signs a certificate."""

from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.cli import output


def sign(
    certificate: Annotated[str, typer.Argument(metavar="CERTIFICATE", help="The file that certify --statement wrote.")],
    *,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The bundle. [CERTIFICATE.sigstore.json]")
    ] = None,
    identity_token: Annotated[
        str, typer.Option("--identity-token", envvar="SIGSTORE_ID_TOKEN", help="An OpenID Connect token. [asked for]")
    ] = "",
) -> None:
    """Sign a certificate with sigstore.

    It is signed as the identity of a person or of a workflow, which needs a network connection.

    The certificate is verified first. The bundle holds it; verify reads both.

    Exit status: 0 signed; 1 the certificate is refused; 3 it could not be signed.
    """
    from deeplab_spec.verify.service import verify
    from deeplab_spec.verify.statement import MOST_BYTES
    from deeplab_spec.verify.statement import sign as signed
    from deeplab_spec.views.document import read_bounded

    path = Path(certificate)
    document = verify(path)
    if document.problems:
        output.report(document.text)
        raise typer.Exit(document.exit_code)
    bundle = signed(read_bounded(path, MOST_BYTES).removesuffix(b"\n"), identity_token)
    place = file or path.with_name(f"{path.name}.sigstore.json")
    output.report(bundle, place)
    output.summary(f"{place}: signed {document.target}")
