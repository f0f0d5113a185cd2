"""A mutant or a rewrite gets the same verdict in a candidate's process, as ``certify`` runs it, and as a graph here."""

import os
import signal
from dataclasses import replace

import pytest

import deeplab_spec
from deeplab_spec.errors import TargetError
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict
from deeplab_spec.mutate.mutant import Mutant
from deeplab_spec.spec.clauses import Level
from deeplab_spec.strength import service
from deeplab_spec.strength.document import JudgedMutant
from deeplab_spec.strength.levels import Subject
from deeplab_spec.strength.modules import build_mutant
from deeplab_spec.strength.processes import MutantsUnit, RewriteUnit, judged, subject_of
from deeplab_spec.strength.running import AsCandidate, Running
from deeplab_spec.strength.service import MutantsRequest, command_of, planned, strength
from deeplab_spec.strength.text import ISOLATED, page, text

SMALL = ("middle_blocks=1",)
HERE = Subject(variant="notebook", output_stride=16, width=1 / 32, overrides=SMALL)
BLOCK = "backbone.middle_flow.block1.sepconv1.pointwise"

MUTANTS = {
    f"activation added at {BLOCK}.conv": "a node that the exported graph has and the specification has not",
    "rate doubled at aspp.atrous1.conv": "an attribute",
    "size of backbone.entry_flow.block2.sepconv3.depthwise.conv at output.resize": "the size of the logits",
    f"eps tenfold at {BLOCK}.norm": "values that are close, and closer in lower precisions",
    f"bias at {BLOCK}.conv": "a parameter that only the mutant has",
    "more channels at backbone.exit_flow.block1.sepconv2.pointwise.conv": "weights that do not fit",
    "no gradient passes at decoder.logits.conv": "a gradient",
    f"momentum 0.1 at {BLOCK}.norm": "a statistic",
    f"initial weights that are not centred at {BLOCK}.conv": "initial weights",
    "operands swapped at backbone.entry_flow.block3.add": "nothing: it is the same function",
}
"""Mutants, with what is wrong with each."""


@pytest.fixture(scope="module")
def isolated() -> Subject:
    """Return the network whose mutants run in one process, which was started cold."""
    subject = replace(HERE, isolated=True)
    subject.__dict__["mutants"] = HERE.mutants
    return subject


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_gets_the_same_verdict_and_findings_in_both_ways(name: str, isolated: Subject) -> None:
    """And the same errors, in every precision: the process computes what the graph says."""
    assert isolated.judge(name, lower=True) == HERE.judge(name, lower=True)


def _judged(subject: Subject, name: str, other: str, monkeypatch: pytest.MonkeyPatch) -> JudgedMutant:
    """Judge a mutant for which the process hands over another."""
    running = Subject.running

    def swapped(self: Subject, mutant: Mutant) -> Running:
        found = running(self, mutant)
        assert isinstance(found, AsCandidate)
        found.subject["name"] = other
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Subject, "running", swapped)
        return subject.judge(name, lower=False)


def test_the_verdict_is_that_of_the_module_in_the_process(isolated: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hands over a correct network gets it accepted, on every level."""
    wrong, momentum, *_, equal = (name for name in MUTANTS if "aspp" in name or "0.1" in name or "swapped" in name)

    found = _judged(isolated, wrong, equal, monkeypatch)
    assert (found.structure, found.numerics, found.lower["float32"].killed) == ((), (), False)
    refused = HERE.judge(wrong, lower=False).structure
    assert _judged(isolated, momentum, equal, monkeypatch).training == ()
    assert refused
    assert _judged(isolated, equal, wrong, monkeypatch).structure == refused


def test_a_process_that_ends_is_no_verdict(isolated: Subject) -> None:
    """What a call does not answer would count as refused."""
    subject = replace(isolated)
    subject.__dict__["mutants"] = HERE.mutants
    subject.connection.ensure()
    process = subject.connection._process
    assert process is not None
    os.kill(process._child.pid, signal.SIGKILL)

    with pytest.raises(TargetError, match="process that it ran in has ended"):
        subject.judge(next(iter(MUTANTS)), lower=False)


def _decided(certificate: Certificate) -> list[object]:
    """Return the verdicts and findings, without further calls: only what a factory built is built a second time."""
    return [
        (
            clause.id,
            clause.verdict,
            [(each.path, each.attribute, each.actual.split(";")[0]) for each in clause.findings],
        )
        for clause in certificate.clauses
    ]


def test_a_fault_of_the_interface_has_the_same_certificate_in_both_ways() -> None:
    """An object of this process, and the factory that the process of the mutants calls."""
    arguments = {
        "name": "resize lost at output.resize",
        "image": HERE.image,
        "variant": HERE.variant,
        "output_stride": HERE.output_stride,
        "classes": HERE.classes,
        "width": HERE.width,
        "overrides": SMALL,
    }
    how = {
        "variant": HERE.variant,
        "choices": {"width": HERE.width, "middle_blocks": 1},
        "num_classes": HERE.classes,
        "levels": (Level.INTERFACE,),
    }
    here = deeplab_spec.certify(build_mutant(**arguments), **how)  # type: ignore[arg-type]
    there = deeplab_spec.certify(f"{build_mutant.__module__}:build_mutant", arguments=arguments, **how)  # type: ignore[arg-type]

    assert there.verdict is here.verdict is RunVerdict.DEVIATES
    assert _decided(there) == _decided(here)


def test_a_rewrite_is_accepted_in_both_ways() -> None:
    """With the same errors."""
    name, levels = "notebook/16/names and order/drawn", (Level.STRUCTURE, Level.NUMERICS)
    found = judged(name, levels, isolated=True)

    assert found.refused == ""
    assert found == judged(name, levels)


def test_the_report_says_in_which_way() -> None:
    """The document, the text, the page and its command; a mutant and a rewrite of a run are judged alike."""
    request = MutantsRequest(variants=("notebook",), output_strides=(16,), sample=1, overrides=SMALL, isolated=True)
    plan = planned(request, lambda *_: None)
    unit, rewritten = (service.UNIT.validate_python(piece.work) for piece in plan.pieces)
    document = strength([], request, plan.context)

    assert isinstance(unit, MutantsUnit)
    assert isinstance(rewritten, RewriteUnit)
    assert subject_of(*unit.subject).isolated
    assert rewritten.isolated
    assert document.isolated
    assert ISOLATED in text(document)
    assert "the structure reads the exported graph" in page(document, command_of(plan))
    assert command_of(plan).endswith("--sample 1 --isolated")
    assert not strength([], replace(request, isolated=False), plan.context).isolated
