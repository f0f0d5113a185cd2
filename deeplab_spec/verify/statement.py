"""The statement of a certificate in a file: untrusted JSON, whose form and digests are checked.

It may stand in a bundle of sigstore, which says who signed which bytes, and when; ``sign`` makes one.
"""

import base64
import json
from importlib.util import find_spec
from typing import Any, Final

from pydantic import ValidationError

from deeplab_spec.errors import MissingExtraError, TargetError, one_line, printable
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.statement import EXTENSION, TYPE, VERSION, digest, statement
from deeplab_spec.views.document import canonical

MOST_BYTES: Final = 64 * 2**20
"""A larger file is refused unread."""

PAYLOAD: Final = "application/vnd.in-toto+json"
_LONGEST: Final = 200
_MADE: Final = "deeplab-spec certify TARGET --statement FILE writes one"


class RefusedError(ValueError):
    """A file that is no certificate; its arguments are where that shows, and what is wrong there."""


def read(content: bytes) -> Certificate:
    """Return the certificate in a statement.

    Raises:
        RefusedError: If it is not a statement in canonical form, or anything in it contradicts its certificate.
    """
    found = _object(content)
    if found.get("_type") != TYPE:
        plain = "schema_version" in found and "clauses" in found
        raise RefusedError("_type", f"{'is a report, and ' * plain}is not an in-toto statement; {_MADE}")
    predicate = found.get("predicate")
    extension = predicate.get(EXTENSION) if isinstance(predicate, dict) else None
    if not isinstance(extension, dict):
        raise RefusedError(f"predicate.{EXTENSION}", f"must hold a certificate; {_MADE}")
    if extension.get("version") != VERSION:
        raise RefusedError(
            f"predicate.{EXTENSION}.version", f"must be {VERSION}, but is {_short(extension.get('version'))}"
        )
    if extension.get("digest") != digest(found):
        raise RefusedError(
            f"predicate.{EXTENSION}.digest", "does not fit: the certificate was changed after it was made"
        )
    certificate = _certificate(extension.get("certificate"))
    for where, expected, actual in _differences(statement(certificate), found):
        if not where.endswith(f"{EXTENSION}.digest"):
            raise RefusedError(where, f"must be {_short(expected)} by the certificate in it, but is {_short(actual)}")
    return certificate


def _object(content: bytes) -> dict[str, Any]:
    """Return a JSON object in canonical form."""
    try:
        text = content.decode().removesuffix("\n")
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusedError("file", "is not JSON") from None
    if not isinstance(found, dict):
        raise RefusedError("file", "is not a JSON object")
    try:
        again = canonical(found)
    except (ValueError, RecursionError):
        again = ""
    if again != text and found.get("_type") == TYPE:
        raise RefusedError("file", "is not canonical JSON: sorted names, each once, and no spaces")
    return found


def _certificate(document: object) -> Certificate:
    try:
        return Certificate.model_validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, ("certificate", *first["loc"])))
        raise RefusedError(printable(where), _short(first["msg"])) from None


def _differences(expected: object, actual: object, where: str = "") -> list[tuple[str, object, object]]:
    """Return where two JSON values differ, with both values there."""
    prefix = f"{where}." if where else ""
    if isinstance(expected, dict) and isinstance(actual, dict):
        names = [*expected, *(name for name in actual if name not in expected)]
        pairs = [(f"{prefix}{name}", expected.get(name, _MISSING), actual.get(name, _MISSING)) for name in names]
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        pairs = [(f"{prefix}{number}", *pair) for number, pair in enumerate(zip(expected, actual, strict=True))]
    else:
        same = type(expected) is type(actual) and expected == actual
        return [] if same else [(printable(where), expected, actual)]
    return [found for place, left, right in pairs for found in _differences(left, right, place)]


class _Missing:
    def __repr__(self) -> str:
        return "absent"


_MISSING: Final = _Missing()


def _short(value: object) -> str:
    text = printable(value if isinstance(value, str) else repr(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


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
        if envelope["payloadType"] == PAYLOAD:
            return base64.b64decode(envelope["payload"], validate=True), True
    except (KeyError, TypeError, ValueError):
        pass
    raise RefusedError("dsseEnvelope", f"must hold a payload of the type {PAYLOAD}")


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
