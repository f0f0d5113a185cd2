"""Candidates in an environment of their own: another Python, another torch, and one whose torch cannot export."""

import platform
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from deeplab_spec.capture.candidate.connection import checked_versions
from deeplab_spec.capture.candidate.start import ProcessSettings
from deeplab_spec.errors import ChildError, TargetError
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.judge import run
from deeplab_spec.judge.request import request_from
from deeplab_spec.judge.text import text
from deeplab_spec.result import ExitCode
from deeplab_spec.views.progress import silent
from tests.support import certificates

SUPPORT = Path(__file__).parents[1] / "support"
CANDIDATE = """
import sys

import torch
from torch import nn
from torch.nn import functional


class Decoder(nn.Module):
    def __init__(self, does):
        super().__init__()
        self.does = does
        self.low = nn.Conv2d(7, 5, 1)
        self.norm = nn.BatchNorm2d(5, eps=0.001, momentum=0.0003)
        self.logits = nn.Conv2d(13, 21, 3, padding=1)
        for layer in (self.low, self.logits):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x, low):
        if "deeplab_spec" in sys.modules:
            raise RuntimeError("the judge is in this process")
        if self.does != "export" and float(x.sum()) < -1e30:
            return x
        low = torch.relu(self.norm(self.low(low)))
        x = functional.interpolate(x, low.shape[2:], mode="bilinear", align_corners=True)
        x = torch.cat((x, low), dim=1)
        return self.logits(x) * 1.0001 if self.does == "wrong" else self.logits(x)


class Reordered(Decoder):
    def __init__(self):
        super().__init__("right")
        self.low = self._modules.pop("low")


def build(does="export"):
    return Decoder(does)


def reordered():
    return Reordered()
"""


@pytest.fixture(name="python")
def own_environment(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the Python of the other environment, or else this one without what is set for it."""
    given = request.config.getoption("--candidate-python")
    return str(given or script(tmp_path, f"exec {sys.executable} -I"))


def script(folder: Path, command: str) -> Path:
    """Return a program that is started as Python is."""
    program = folder / "python"
    program.write_text(f'#!/bin/sh\n{command} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def judged(folder: Path, python: str, target: str = "candidate:build", **arguments: str) -> Certificate:
    """Judge the candidate in another environment."""
    (folder / "candidate.py").write_text(CANDIDATE, encoding="utf-8")
    request = request_from(
        target,
        variant="notebook",
        overrides=("width=0.03125", "middle_blocks=2"),
        part="decoder",
        arguments=arguments,
    )
    return run(request, silent, ProcessSettings(python=python, search=(str(folder),), timeout=60))


def of(certificate: Certificate, verdict: Verdict) -> set[str]:
    """Return the clauses with a verdict."""
    return {clause.id for clause in certificate.clauses if clause.verdict is verdict}


def test_a_file_that_needs_torch_only_is_certified_in_its_own_environment(tmp_path: Path, python: str) -> None:
    """Nothing of the judge is in its process, and both versions are in the certificate."""
    certificate = judged(tmp_path, python)

    assert certificate.exit_code is ExitCode.DONE, text(certificate)
    assert certificate.versions["torch"] == torch.__version__
    assert certificate.versions["python"] == platform.python_version()
    if not certificate.versions["candidate_python"].startswith("3."):
        pytest.fail("it has no version of Python")
    shown = f"the candidate's {certificate.versions['candidate_torch']} on Python" in text(certificate)
    same = certificate.versions["candidate_torch"] == torch.__version__
    assert shown is not (same and certificate.versions["candidate_python"] == platform.python_version())


@pytest.mark.deep
def test_a_right_network_conforms_in_its_own_environment(request: pytest.FixtureRequest, python: str) -> None:
    """The whole of the authors' release, as a file that knows nothing of this package, at every level."""
    target = request_from("plain_tf_release:build", variant="tf-release", overrides=("width=0.125", "middle_blocks=2"))
    certificate = run(target, silent, ProcessSettings(python=python, search=(str(SUPPORT),), timeout=60))

    assert certificate.exit_code is ExitCode.DONE, text(certificate)
    same = certificate.versions["candidate_torch"] == certificate.versions["torch"]
    assert same is not bool(request.config.getoption("--candidate-python"))


def test_other_versions_are_in_the_header() -> None:
    """They can explain another result."""
    versions = {"torch": "2.13.0", "python": "3.11.7", "candidate_torch": "2.4.0", "candidate_python": "3.9.1"}
    made = certificates.certificate().model_copy(update={"versions": versions})

    assert "torch 2.13.0, the candidate's 2.4.0 on Python 3.9.1" in text(made).splitlines()[0]


def test_values_are_judged_where_torch_cannot_export(tmp_path: Path, python: str) -> None:
    """A right network is inconclusive: its graph is undecided, and its values are the specification's."""
    certificate = judged(tmp_path, python, does="right")

    assert certificate.exit_code is ExitCode.UNDECIDED
    assert of(certificate, Verdict.FAILED) == set()
    assert of(certificate, Verdict.PASSED) >= {"VALUES-EVERY-CALL", "VALUES-END-TO-END", "VALUES-FLOAT32"}
    assert of(certificate, Verdict.UNDECIDED) >= {"GRAPH-KNOWN", "DATAFLOW", "VALUES-DECODER", "TRAIN-STEP"}
    assert "torch.export refused the module" in text(certificate)


def test_wrong_values_are_found_where_torch_cannot_export(tmp_path: Path, python: str) -> None:
    """One part in ten thousand; no node is named, and none is said to be right."""
    certificate = judged(tmp_path, python, does="wrong")

    assert certificate.exit_code is ExitCode.DIFFERENT
    assert of(certificate, Verdict.FAILED) == {"VALUES-EVERY-CALL", "VALUES-END-TO-END", "VALUES-FLOAT32"}
    assert certificate.first_divergence_reason == ""


def test_layers_in_another_order_are_not_matched_without_a_graph(tmp_path: Path, python: str) -> None:
    """Nothing is compared through a guess."""
    certificate = judged(tmp_path, python, "candidate:reordered")

    assert certificate.exit_code is ExitCode.UNDECIDED
    assert of(certificate, Verdict.UNDECIDED) >= {"VALUES-EVERY-CALL", "VALUES-END-TO-END"}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (f"exec {sys.executable} -I -S", "cannot import torch: ModuleNotFoundError: No module named 'torch'"),
        ("exec ls", "it is no Python interpreter"),
        ("exit 0", "it is no Python interpreter"),
    ],
)
def test_an_environment_that_cannot_run_candidates_is_one_line(tmp_path: Path, command: str, reason: str) -> None:
    """Another program would print whatever it likes."""
    python = script(tmp_path, command)

    with pytest.raises(TargetError) as refusal:
        judged(tmp_path, str(python))
    assert str(refusal.value) == f"candidate:build: the process cannot be started: {python}: {reason}"


@pytest.mark.parametrize("path", ["/nonexistent/python", "/"])
def test_a_path_without_a_program_is_one_line(tmp_path: Path, path: str) -> None:
    """It may be a folder."""
    with pytest.raises(TargetError, match="it is no Python interpreter"):
        judged(tmp_path, path)


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ({"python": "3.8.20", "torch": "2.4.1"}, "it has python 3.8.20, and needs 3.9 or later"),
        ({"python": "3.9.1", "torch": "2.3.1+cu121"}, "it has torch 2.3.1+cu121, and needs 2.4 or later"),
        ({"python": "3.9.1"}, "it has torch None, and needs 2.4 or later"),
        ([], "it has python None, and needs 3.9 or later"),
    ],
)
def test_versions_that_are_too_old_are_refused(stated: object, reason: str) -> None:
    """What an environment says of itself is checked before anything is built in it."""
    with pytest.raises(ChildError, match=f"^{reason.replace('+', '.')}$"):
        checked_versions(stated)


def test_the_oldest_versions_are_accepted() -> None:
    """The counter-test of the one above."""
    assert checked_versions({"python": "3.9.0", "torch": "2.4.0"}) == {"python": "3.9.0", "torch": "2.4.0"}
