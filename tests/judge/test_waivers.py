"""``deeplab_spec.certify`` with waivers: the arguments of the command, and its rules."""

from datetime import date
from pathlib import Path

import pytest

import deeplab_spec
from deeplab_spec.errors import SpecError
from tests.support.candidates import right
from tests.support.certificates import certificate

FILE = """
[[waiver]]
clause = "ASPP-RATES"
node = "aspp.atrous1.conv"
reason = "our checkpoints have these rates"
expires = 2027-01-31
"""


@pytest.mark.parametrize("target", ["reference:notebook", right])
def test_certify_takes_waivers(target: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file with a day; a run that they leave standing is accepted only where that is said."""
    decided = certificate({"ASPP-RATES": ("aspp.atrous1.conv",)})
    monkeypatch.setattr("deeplab_spec.judge.api.judge", lambda *_: decided)
    path = tmp_path / "w.toml"
    path.write_text(FILE, encoding="utf-8")

    def certify(**options: object) -> object:
        return deeplab_spec.certify(target, "notebook", **options)  # type: ignore[arg-type]

    held = certify(waivers=path, today=date(2027, 1, 31), accept_waivers=True)
    assert (held.verdict.value, held.accepted) == ("conforms with waivers", True)  # type: ignore[attr-defined]
    assert not certify(waivers=str(path), today=date(2027, 1, 31)).accepted  # type: ignore[attr-defined]
    assert certify() == decided
    with pytest.raises(SpecError, match="must not have expired by 2027-02-01"):
        certify(waivers=path, today=date(2027, 2, 1))
    decided = certificate()
    with pytest.raises(SpecError, match="must cover a finding of ASPP-RATES, which is passed"):
        certify(waivers=path, today=date(2027, 1, 31))
