"""Signing: a bundle holds the statement as it is, and says whose signature it must be checked for."""

import base64
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import deeplab_spec
from deeplab_spec.errors import MissingExtraError
from deeplab_spec.judge.statement import text_of
from deeplab_spec.verify import statement as statements
from deeplab_spec.verify.service import verify


@pytest.fixture(scope="module")
def statement() -> str:
    """Certify the interface of a narrow decoder."""
    choices = {"width": 0.03}
    module = deeplab_spec.build("tf-release", choices=choices).decoder
    found = deeplab_spec.certify(module, "tf-release", choices=choices, part="decoder", levels=["structure"])
    return text_of(found)


def bundle_of(content: bytes) -> str:
    """Return a bundle with a statement, as sigstore writes it."""
    envelope = {
        "payload": base64.b64encode(content).decode(),
        "payloadType": statements.PAYLOAD,
        "signatures": [{"sig": ""}],
    }
    return json.dumps({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": envelope})


def test_without_sigstore_an_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    monkeypatch.setattr(statements, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"sign needs the extra 'sign': pip install 'deeplab-spec\[sign\]'"):
        statements.sign(b"{}")
    with pytest.raises(MissingExtraError, match="verify --identity needs the extra 'sign'"):
        statements.check_signature(b"{}", "me@example.org", None)


class Stub:
    """Stands for sigstore: signs without a network, and remembers what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.signed: list[bytes] = []
        self.checked: list[tuple[Any, ...]] = []
        config = SimpleNamespace(get_oidc_url=lambda: "https://oauth2.sigstore.dev/auth")
        trust = SimpleNamespace(production=lambda: SimpleNamespace(signing_config=config))
        self._module(monkeypatch, "sigstore")
        self._module(monkeypatch, "sigstore.dsse", Statement=lambda content: content)
        self._module(
            monkeypatch, "sigstore.models", ClientTrustConfig=trust, Bundle=SimpleNamespace(from_json=lambda text: text)
        )
        self._module(
            monkeypatch, "sigstore.oidc", IdentityToken=str, Issuer=str, detect_credential=lambda: "the machine's"
        )
        self._module(
            monkeypatch, "sigstore.sign",
            SigningContext=SimpleNamespace(from_trust_config=lambda _trust: SimpleNamespace(signer=self.signer)),
        )  # fmt: skip
        verifier = SimpleNamespace(verify_dsse=lambda *both: self.checked.append(both))
        self._module(
            monkeypatch, "sigstore.verify", Verifier=SimpleNamespace(production=lambda *, offline: offline and verifier)
        )
        self._module(monkeypatch, "sigstore.verify.policy", Identity=lambda *, identity, issuer: (identity, issuer))
        monkeypatch.setattr(statements, "find_spec", lambda _name: True)

    @staticmethod
    def _module(monkeypatch: pytest.MonkeyPatch, name: str, **parts: object) -> None:
        module = ModuleType(name)
        module.__dict__.update(parts)
        monkeypatch.setitem(sys.modules, name, module)

    @contextmanager
    def signer(self, identity: str) -> Iterator[SimpleNamespace]:
        """Sign as an identity."""
        self.identity = identity

        def sign_dsse(content: bytes) -> SimpleNamespace:
            self.signed.append(content)
            return SimpleNamespace(to_json=lambda: bundle_of(content))

        yield SimpleNamespace(sign_dsse=sign_dsse)


def test_what_is_signed_is_the_statement_byte_for_byte(
    monkeypatch: pytest.MonkeyPatch, statement: str, tmp_path: Path
) -> None:
    """The bundle is verified like the statement in it; a signature counts if it is asked for."""
    from deeplab_spec.cli.app import main

    stub = Stub(monkeypatch)
    file = tmp_path / "certificate.json"
    file.write_text(f"{statement}\n")
    with pytest.raises(SystemExit) as end:
        main(["sign", str(file)])
    assert not end.value.code

    assert stub.signed == [statement.encode()]
    assert stub.identity == "the machine's"
    bundle = tmp_path / "certificate.json.sigstore.json"
    assert any("not its signature" in each for each in verify(bundle).checked)
    document = verify(bundle, identity="me@example.org", issuer="https://example.org")
    assert document.exit_code == 0
    assert "the signature of me@example.org" in document.checked
    assert stub.checked[0][1] == ("me@example.org", "https://example.org")


def test_a_statement_without_a_signature_has_none(statement: str, tmp_path: Path) -> None:
    """Asking for one refuses it."""
    file = tmp_path / "certificate.json"
    file.write_text(statement)
    (problem,) = verify(file, identity="me@example.org").problems
    assert problem.where == "signature"


def test_a_changed_statement_is_not_signed(monkeypatch: pytest.MonkeyPatch, statement: str, tmp_path: Path) -> None:
    """It is verified before."""
    from deeplab_spec.cli.app import main

    stub = Stub(monkeypatch)
    file = tmp_path / "certificate.json"
    file.write_text(statement.replace("conforms", "deviates"))
    with pytest.raises(SystemExit) as end:
        main(["sign", str(file)])
    assert end.value.code == 1
    assert not stub.signed
