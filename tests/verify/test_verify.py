"""A certificate is verified offline, and refused for every change of what it says."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import deeplab_spec
from deeplab_spec.cli.app import main
from deeplab_spec.judge.certificate import Certificate, PlantedTotals
from deeplab_spec.judge.finding import Verdict, combined, run_verdict
from deeplab_spec.judge.statement import EXTENSION, digest, statement, text_of
from deeplab_spec.verify.document import VerifyDocument
from deeplab_spec.verify.service import verify
from deeplab_spec.views.document import canonical

WIDTH = {"width": 0.03}
Json = dict[str, Any]


def decoder(**choices: object) -> nn.Module:
    """Build a narrow decoder of the authors' release."""
    module: nn.Module = deeplab_spec.build("tf-release", choices={**WIDTH, **choices}).decoder  # type: ignore[dict-item]
    return module


def certified(**choices: object) -> Certificate:
    """Judge a decoder at every level."""
    return deeplab_spec.certify(decoder(**choices), "tf-release", choices=WIDTH, part="decoder")


@pytest.fixture(scope="module")
def right() -> Certificate:
    """Certify a decoder that conforms."""
    return certified()


@pytest.fixture(scope="module")
def wrong() -> Certificate:
    """Certify a decoder whose normalisations have another eps."""
    return certified(head_norm_eps=1e-3)


def checked(content: str, folder: Path, **options: Any) -> VerifyDocument:
    """Verify the text of a statement."""
    file = folder / "certificate.json"
    file.write_text(content, encoding="utf-8")
    return verify(file, **options)


def test_what_certify_writes_is_verified(right: Certificate, wrong: Certificate, tmp_path: Path) -> None:
    """Also where it deviates: it is a certificate of that."""
    assert checked(text_of(right), tmp_path).summary == f"VERIFIED: {right.target} conforms"
    assert checked(f"{text_of(wrong)}\n", tmp_path).summary == f"VERIFIED: {wrong.target} deviates"


def test_the_statement_is_accepted_by_the_validator_of_in_toto(right: Certificate, wrong: Certificate) -> None:
    """As it is, with the fields of a test result."""
    from google.protobuf.json_format import Parse
    from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    for certificate in (right, wrong):
        found = Parse(text_of(certificate), statement_pb2.Statement())
        Statement.copy_from_pb(found).validate()
        predicate = json.loads(text_of(certificate))["predicate"]
        result = Parse(json.dumps(predicate), TestResult(), ignore_unknown_fields=True)
        failed = [clause.id for clause in certificate.clauses if clause.verdict is Verdict.FAILED]
        assert list(result.failed_tests) == failed
        assert result.result == ("FAILED" if failed else "PASSED")
        assert result.configuration[0].name.startswith("tf-release@")
        assert not set(result.passed_tests) & {*result.failed_tests, *result.warned_tests}


def test_one_network_has_one_graph(right: Certificate, wrong: Certificate) -> None:
    """The digest of the graph changes with the network, and that of the weights with the weights."""
    again = deeplab_spec.certify(decoder(), "tf-release", choices=WIDTH, part="decoder", levels=["structure"])

    assert again.subjects[0].graph == right.subjects[0].graph != wrong.subjects[0].graph
    assert again.subjects[0].weights != right.subjects[0].weights


def leaves(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of every value that has no parts, and of every list and object that has some."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if place:
        yield place
    for name, part in parts:
        yield from leaves(part, (*place, name))


def altered(value: Any) -> Any:
    """Return another value of the same kind; a list or an object loses its last part."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value - 1 if value > 0 else value + 1
        case str():
            return value[:-1] + ("b" if value.endswith("a") else "a")
        case list():
            return value[:-1]
        case dict():
            return dict(list(value.items())[:-1])
        case _:
            return "another"


def changed(document: Json, place: tuple[str | int, ...]) -> Json:
    """Return a copy with the value at one place altered."""
    copy: Json = json.loads(json.dumps(document))
    holder: Any = copy
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = altered(holder[place[-1]])
    return copy


@given(data=st.data())
def test_every_altered_field_is_refused(
    right: Certificate, wrong: Certificate, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """The certificate's own digest shows it."""
    document = statement(data.draw(st.sampled_from([right, wrong]), label="certificate"))
    place = data.draw(st.sampled_from(list(leaves(document))), label="field")
    other = changed(document, place)
    if other != document:
        assert checked(canonical(other), tmp_path_factory.mktemp("file")).problems


ONLY_A_RERUN_SHOWS = re.compile(
    r"predicate\.deeplab_spec(\.digest)?$|.*\.certificate\.("
    r"seconds|versions.*|specification\.version|settings\.existing|conditioning.*|counts|steps.*"
    r"|clauses\.\d+\.findings\.\d+\.(candidate_path|attribute|expected|actual|hint|path|choice)"
    r"|first_divergence\.smallest_input.*|nearest\.choices.*|subjects\.\d+\.(graph|weights))$"
)
"""Fields of a certificate that follow from nothing else in it."""


def following(document: Json) -> list[tuple[str | int, ...]]:
    """Return the place of every field that follows from others: also that there is a reason, but not its words."""
    return [
        place
        for place in leaves(document)
        if not ONLY_A_RERUN_SHOWS.fullmatch(".".join(map(str, place)))
        and not (place[-1] == "reason" and reduce(getitem, place, document))
    ]


def refused_with_a_new_digest(document: Json, place: tuple[str | int, ...], folder: Path) -> bool:
    """Tell whether a statement is refused with one field altered, for another reason than its digest."""
    other = changed(document, place)
    if other == document or EXTENSION not in other["predicate"]:
        return True
    other["predicate"][EXTENSION]["digest"] = digest(other)
    problems = checked(canonical(other), folder).problems
    return bool(problems) and all("does not fit" not in each.problem for each in problems)


@given(data=st.data())
def test_a_field_that_follows_from_others_is_refused_with_a_new_digest(
    right: Certificate, wrong: Certificate, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Everything that was decided does: ids, levels, verdicts, numbers, findings, settings."""
    document = statement(data.draw(st.sampled_from([right, wrong]), label="certificate"))
    place = data.draw(st.sampled_from(following(document)), label="field")

    assert refused_with_a_new_digest(document, place, tmp_path_factory.mktemp("file"))


@pytest.mark.deep
def test_every_field_that_follows_from_others_is_refused_with_a_new_digest(
    right: Certificate, wrong: Certificate, tmp_path: Path
) -> None:
    """One field in four hundred that is not would seldom be drawn above."""
    for document in map(statement, (right, wrong)):
        places = following(document)
        assert len(places) > 500
        assert [place for place in places if not refused_with_a_new_digest(document, place, tmp_path)] == []


def remade(certificate: Certificate, **changes: object) -> str:
    """Return the whole statement of a changed certificate, with levels and verdict made anew."""
    other = certificate.model_copy(update=changes)
    levels = {
        level: combined(clause.verdict for clause in other.clauses if clause.level == level) for level in other.levels
    }
    verdict = run_verdict(clause.verdict for clause in other.clauses)
    planted = sum(clause.planted for clause in other.clauses)
    canaries = PlantedTotals(planted=planted, killed=sum(clause.killed for clause in other.clauses))
    derived = {"levels": levels, "verdict": verdict, "canaries": canaries}
    return text_of(Certificate.model_validate_json(other.model_copy(update=derived).model_dump_json()))


def with_clause(certificate: Certificate, name: str, **changes: object) -> tuple[object, ...]:
    """Return the clauses with one changed."""
    return tuple(clause.model_copy(update=changes) if clause.id == name else clause for clause in certificate.clauses)


IDS = [clause.id for clause in deeplab_spec.spec.clauses.clauses_of("decoder")]


@pytest.mark.parametrize("name", IDS)
def test_a_removed_clause_is_refused_though_all_else_is_made_anew(
    right: Certificate, tmp_path: Path, name: str
) -> None:
    """The specification says which clauses there must be."""
    left = tuple(clause for clause in right.clauses if clause.id != name)
    (problem, *_) = checked(remade(right, clauses=left), tmp_path).problems

    assert problem.where == name
    assert "is missing" in problem.problem


EXACT = [name for name in IDS if name not in {"DROPOUT", "INITIALISATION", "BATCH-OF-ONE"}]


@pytest.mark.parametrize("name", EXACT)
def test_a_lowered_number_of_decisions_is_refused_though_all_else_is_made_anew(
    right: Certificate, tmp_path: Path, name: str
) -> None:
    """The specification says how many there must be, whatever the certificate requires of itself."""
    number = next(clause.decisions for clause in right.clauses if clause.id == name) - 1
    alone = with_clause(right, name, decisions=number)
    both = with_clause(right, name, decisions=number, required=number)

    for clauses in (alone, both):
        problems = checked(remade(right, clauses=clauses), tmp_path).problems
        assert name in {each.where for each in problems}


@pytest.mark.parametrize("verdict", [each for each in Verdict if each is not Verdict.PASSED])
def test_a_turned_verdict_is_refused_though_all_else_is_made_anew(
    right: Certificate, tmp_path: Path, verdict: Verdict
) -> None:
    """A verdict needs what it follows from: findings, a reason, a waiver."""
    turned = with_clause(right, "LOGITS-CONV", verdict=verdict)

    assert {each.where for each in checked(remade(right, clauses=turned), tmp_path).problems} >= {"LOGITS-CONV"}


def test_a_dropped_finding_is_refused_though_all_else_is_made_anew(wrong: Certificate, tmp_path: Path) -> None:
    """The digest of the graph says which differences there are: one of several may not be left out, nor all."""
    name = "HEAD-NORM-EPS"
    findings = next(clause.findings for clause in wrong.clauses if clause.id == name)
    one = with_clause(wrong, name, findings=findings[:-1])
    every = with_clause(wrong, name, findings=(), verdict=Verdict.PASSED, planted=1, killed=1)

    assert len(findings) > 1
    for clauses in (one, every):
        problems = checked(remade(wrong, clauses=clauses), tmp_path).problems
        assert any(each.where == name and "must have a finding at" in each.problem for each in problems)


def test_a_failed_clause_that_is_said_to_pass_is_refused(wrong: Certificate, tmp_path: Path) -> None:
    """Its findings contradict it, and so does the first node that differs."""
    turned = with_clause(wrong, "HEAD-NORM-EPS", verdict=Verdict.PASSED)

    assert any(
        "is passed, but has" in each.problem for each in checked(remade(wrong, clauses=turned), tmp_path).problems
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "is not an in-toto statement"),
        ('{"_type":"https://in-toto.io/Statement/v1"}', "must hold a certificate"),
    ],
)
def test_what_is_no_certificate_is_refused_in_a_line(tmp_path: Path, content: str, problem: str) -> None:
    """A file may hold anything."""
    (found,) = checked(content, tmp_path).problems
    assert problem in found.problem


def test_the_report_of_certify_is_refused_with_what_to_do(right: Certificate, tmp_path: Path) -> None:
    """``--json`` writes a report; ``--statement`` writes what can be verified."""
    (found,) = checked(right.model_dump_json(), tmp_path).problems
    assert "is a report" in found.problem
    assert "--statement" in found.problem


def test_a_statement_has_one_form(right: Certificate, tmp_path: Path) -> None:
    """Spaces, other orders and doubled names are refused: one statement has one digest."""
    text = text_of(right)
    doubled = text.replace('{"_type":', '{"_type":"","_type":', 1)
    for other in (json.dumps(json.loads(text)), json.dumps(statement(right), indent=1), doubled):
        (found,) = checked(other, tmp_path).problems
        assert "canonical" in found.problem


def test_another_specification_is_refused(right: Certificate, tmp_path: Path) -> None:
    """Its release is named: its numbers of decisions cannot be known here."""
    assert right.specification
    other = right.specification.model_copy(update={"digest": "0" * 64, "version": "9.9"})
    (found,) = checked(remade(right, specification=other), tmp_path).problems
    assert "another one (9.9" in found.problem


def test_an_object_of_a_program_cannot_be_made_again(right: Certificate, tmp_path: Path) -> None:
    """No name finds it."""
    with pytest.raises(deeplab_spec.errors.TargetError, match="is an object of a program"):
        checked(text_of(right), tmp_path, rerun=True)


TARGET = ("reference:tf-release", "--part", "decoder", "--choose", "width=0.03", "--seed", "3")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a certificate with the command."""
    path = tmp_path_factory.mktemp("statement") / "certificate.json"
    with pytest.raises(SystemExit) as end:
        main(["certify", *TARGET, "--statement", str(path)])
    assert end.value.code == 0
    return path


def run(*arguments: str) -> int:
    """Run a command, and return its exit status."""
    with pytest.raises(SystemExit) as end:
        main([*arguments])
    return int(end.value.code or 0)


def test_a_certificate_is_made_again(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From its seed: every field is the same."""
    assert run("verify", str(file), "--rerun") == 0
    assert "made again with seed 3" in capsys.readouterr().out


Edit = Callable[[Json], object]
EDITS: dict[str, Edit] = {
    "versions.torch": lambda document: document["versions"].update(torch="0.1"),
    "subjects.0.weights": lambda document: document["subjects"][0].update(weights="0" * 64),
    "conditioning.0.float32_error": lambda document: document["conditioning"][0].update(float32_error=0.5),
}


def test_what_only_a_new_run_shows_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fields that follow from nothing else are compared with the new run's."""
    document = json.loads(file.read_text())["predicate"][EXTENSION]["certificate"]
    for edit in EDITS.values():
        edit(document)
    forged = file.with_name("forged.json")
    forged.write_text(text_of(Certificate.model_validate(document)))

    assert run("verify", str(forged)) == 0
    capsys.readouterr()
    assert run("verify", str(forged), "--rerun") == 1
    printed = capsys.readouterr().out
    assert all(place in printed for place in EDITS)


def test_verify_loads_no_torch(file: Path) -> None:
    """It works where only the base of this package is installed."""
    code = "import sys; sys.modules['torch'] = None; from deeplab_spec.cli.app import main; main(sys.argv[1:])"
    ended = subprocess.run(
        [sys.executable, "-c", code, "verify", str(file)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0
    assert ended.stdout.endswith("VERIFIED: reference:tf-release conforms.\n")


def test_exit_statuses_of_verify(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verified 0, refused 1, no certificate named 2, no such file 3."""
    changed_file = tmp_path / "changed.json"
    changed_file.write_text(file.read_text().replace('"passed"', '"failed"', 1))

    assert run("verify", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    assert run("verify", str(changed_file)) == 1
    assert run("verify") == 2
    assert run("verify", str(tmp_path / "missing.json")) == 3
    assert run("verify", str(file), "--artefact", str(file)) == 1  # it certifies no file


def test_a_new_run_may_differ_in_times_the_commit_and_last_digits_only() -> None:
    """A count, a name and the first digits of an error may not."""
    from deeplab_spec.verify.service import compared

    left = {"seconds": 1.0, "specification": {"commit": "a", "version": "1"}, "steps": [{"error": 1e-16, "path": "a"}]}
    same = {"seconds": 2.0, "specification": {"commit": "b", "version": "1"}, "steps": [{"error": 3e-16, "path": "a"}]}
    assert list(compared(left, same)) == []
    other = {**same, "specification": {"commit": "b", "version": "2"}, "steps": [{"error": 1e-6, "path": "b"}]}
    assert [where for where, _ in compared(left, other)] == ["specification.version", "steps.0.error", "steps.0.path"]
    texts = ["off by 0.101, 3 nodes", "off by 0.102, 3 nodes", "off by 0.101, 4 nodes", "off by 0.3, 3 nodes"]
    findings = [{"clauses": [{"findings": [{"actual": text}]}]} for text in texts]
    assert [bool(list(compared(findings[0], each))) for each in findings] == [False, False, True, True]
