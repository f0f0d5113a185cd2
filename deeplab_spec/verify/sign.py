"""Signs a certificate, and checks signatures, with sigstore: a bundle says who signed which bytes, and when."""

import base64
import json
from importlib.util import find_spec
from typing import Final

from deeplab_spec.errors import MissingExtraError, TargetError, one_line
from deeplab_spec.verify.read import RefusedError

TYPE: Final = "application/vnd.in-toto+json"


def payload_of(content: bytes) -> tuple[bytes, bool]:
    """Return the statement in a bundle, and whether the content is a bundle; other content is returned as it is.

    Raises:
        RefusedError: If it is a bundle of something else.
    """
    try:
        found = json.loads(content)
        envelope = found.get("dsseEnvelope") if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        return content, False
    if envelope is None:
        return content, False
    try:
        if envelope["payloadType"] == TYPE:
            return base64.b64decode(envelope["payload"], validate=True), True
    except (KeyError, TypeError, ValueError):
        pass
    raise RefusedError("dsseEnvelope", f"must hold a payload of the type {TYPE}")


def sign(statement: bytes, token: str = "") -> str:
    """Return a bundle: the statement in a DSSE envelope, the signature, the signer's certificate, the log's entry.

    Args:
        statement: The statement, as its file holds it.
        token: An OpenID Connect token of the signer; by default that of the machine, or a browser asks.

    Raises:
        MissingExtraError: If sigstore is not installed.
        TargetError: If it could not be signed.
    """
    _require("sign")
    from sigstore.dsse import Statement
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken, Issuer, detect_credential
    from sigstore.sign import SigningContext

    try:
        trust = ClientTrustConfig.production()
        known = token or detect_credential()
        issuer = trust.signing_config.get_oidc_url()
        identity = IdentityToken(known) if known else Issuer(issuer).identity_token()
        with SigningContext.from_trust_config(trust).signer(identity) as signer:
            return str(signer.sign_dsse(Statement(statement)).to_json())
    except Exception as error:  # whatever the network, the browser and the service raise
        raise TargetError("sigstore", f"did not sign: {one_line(error)}") from error


def check_signature(bundle: bytes, identity: str, issuer: str | None) -> None:
    """Check that a bundle was signed by an identity.

    Raises:
        MissingExtraError: If sigstore is not installed.
        RefusedError: If it was not.
    """
    _require("verify --identity")
    from sigstore.models import Bundle
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity

    try:
        Verifier.production(offline=True).verify_dsse(
            Bundle.from_json(bundle), Identity(identity=identity, issuer=issuer)
        )
    except Exception as error:  # whatever an untrusted bundle makes the library raise
        raise RefusedError("signature", one_line(error)) from error


def _require(what: str) -> None:
    if find_spec("sigstore") is None:
        raise MissingExtraError(what, "sign")
