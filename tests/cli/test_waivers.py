"""``certify --waivers``: a run with waivers succeeds only with ``--accept-waivers``, and never with a wrong waiver."""

import json
from pathlib import Path

import pytest

from deeplab_spec.cli.app import main
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.request import Request
from deeplab_spec.result import ExitCode
from tests.support.certificates import Decided, certificate

DAY = ("--today", "2026-11-24")
FILE = """
[[waiver]]
clause = "ASPP-RATES"
node = "{node}"
reason = "our checkpoints have these rates"
expires = {expires}
"""


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Replace the judge: the rates are wrong at two nodes; return the requests that it receives."""
    requests: list[Request] = []
    rates: dict[str, Decided] = {"ASPP-RATES": ("aspp.atrous1.conv", "aspp.atrous2.conv")}

    def run(request: Request, *_: object) -> Certificate:
        requests.append(request)
        return certificate(rates)

    monkeypatch.setattr("deeplab_spec.judge.judge.run", run)
    return requests


def status(*arguments: str) -> int:
    """Run the command in this process and return its exit status."""
    with pytest.raises(SystemExit) as exited:
        main(["certify", "tests.support.port_networks:small", "--variant", "notebook", *arguments])
    return int(exited.value.code or 0)


def waivers(folder: Path, node: str = "aspp.atrous*.conv", expires: str = "2027-01-31") -> tuple[str, str]:
    """Return the option for a file with one waiver."""
    path = folder / "w.toml"
    path.write_text(FILE.format(node=node, expires=expires), encoding="utf-8")
    return "--waivers", str(path)


@pytest.mark.usefixtures("judged")
def test_waived_findings_exit_1_or_0_if_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a waiver for every finding, ``--accept-waivers`` changes nothing."""
    assert status("--accept-waivers") == ExitCode.DIFFERENT
    assert status(*waivers(tmp_path, "aspp.atrous1.conv"), *DAY, "--accept-waivers") == ExitCode.DIFFERENT
    capsys.readouterr()
    assert status(*waivers(tmp_path), *DAY) == ExitCode.DIFFERENT
    assert "which is not accepted (--accept-waivers)" in " ".join(capsys.readouterr().out.split())
    assert status(*waivers(tmp_path), *DAY, "--accept-waivers", "--json") == ExitCode.DONE
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["today"]) == ("conforms with waivers", "2026-11-24")


@pytest.mark.parametrize(
    ("node", "expires", "message", "runs"),
    [
        ("aspp.atrous1.conv", "2026-11-23", "waiver 1: must not have expired by 2026-11-24, but got '2026-11-23'", 0),
        ("*", "2027-01-31", "waiver 1: node must be a path; a star may be part of one name between dots", 0),
        ("aspp.atrous3.conv", "2027-01-31", "must cover a finding of ASPP-RATES, which is false at aspp.atrous1", 1),
    ],
    ids=["expired", "broad", "stale"],
)
def test_a_wrong_waiver_is_a_usage_error(
    node: str,
    expires: str,
    message: str,
    runs: int,
    judged: list[Request],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, exit status 2 and no certificate, if possible before anything is judged."""
    assert status(*waivers(tmp_path, node, expires), *DAY, "--accept-waivers") == ExitCode.USAGE
    captured = capsys.readouterr()

    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith(f"deeplab-spec: {tmp_path / 'w.toml'}: waiver 1: ")
    assert message in line
    assert len(judged) == runs


def test_an_invalid_date_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As for any option with an invalid value."""
    assert status(*waivers(tmp_path), "--today", "tomorrow") == ExitCode.USAGE
    assert "'tomorrow' does not match the format" in capsys.readouterr().err
