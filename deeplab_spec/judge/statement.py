"""A certificate as an in-toto statement, which other programs can check, store and sign.

The statement is a test result over the digests of what was judged. Everything in it follows from the certificate's
document, which it contains whole.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.views.document import Json, canonical

TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://in-toto.io/attestation/test-result/v0.1"
EXTENSION: Final = "deeplab_spec"
"""The field of the predicate that holds the certificate."""

VERSION: Final = 1
"""The version of the extension."""

_RESULTS: Final = {RunVerdict.CONFORMS: "PASSED", RunVerdict.CONFORMS_WITH_WAIVERS: "WARNED"}
_COUNTED: Final = ("decisions", "required", "planted", "killed")


def statement(certificate: Certificate) -> Json:
    """Return the statement of a certificate, sealed with a digest of its own."""
    document = json.loads(certificate.model_dump_json())
    extension = {"version": VERSION, "totals": _totals(certificate), "certificate": document}
    unsealed = {
        "_type": TYPE,
        "subject": list(_subjects(certificate)),
        "predicateType": PREDICATE,
        "predicate": {
            "result": _RESULTS.get(certificate.verdict, "FAILED"),
            "configuration": [_configuration(certificate)],
            "passedTests": _tests(certificate, Verdict.PASSED),
            "warnedTests": _tests(certificate, Verdict.WAIVED, Verdict.UNDECIDED),
            "failedTests": _tests(certificate, Verdict.FAILED),
            EXTENSION: extension,
        },
    }
    extension["digest"] = digest(unsealed)
    return unsealed


def digest(statement: Json) -> str:
    """Return the SHA-256 of a statement without its own digest."""
    predicate = statement["predicate"]
    extension = {name: value for name, value in predicate[EXTENSION].items() if name != "digest"}
    unsealed = {**statement, "predicate": {**predicate, EXTENSION: extension}}
    return sha256(canonical(unsealed).encode()).hexdigest()


def text_of(certificate: Certificate) -> str:
    """Return the statement of a certificate as its file holds it, without the line break at the end."""
    return canonical(statement(certificate))


def _subjects(certificate: Certificate) -> Iterator[Json]:
    if certificate.file:
        yield {"name": certificate.target, "digest": {"sha256": certificate.file}}
    for subject in certificate.subjects:
        for part, found in (("graph", subject.graph), ("weights", subject.weights)):
            if found:
                name = f"{certificate.target}: {part} at output stride {subject.output_stride}"
                yield {"name": name, "digest": {"sha256": found}}


def _configuration(certificate: Certificate) -> Json:
    """Describe the specification and what was fixed before the run."""
    made = certificate.specification
    fixed = certificate.settings
    commit = (made.commit or made.version) if made else "unknown"
    return {
        "name": f"{certificate.reference}@{commit}",
        "digest": {"sha256": made.digest if made else ""},
        "annotations": {
            "choices": list(fixed.overrides),
            "seed": str(certificate.seed),
            "levels": list(fixed.levels),
            "dtypes": list(fixed.dtypes),
            "outputStrides": list(fixed.output_strides),
        },
    }


def _tests(certificate: Certificate, *verdicts: Verdict) -> list[str]:
    return [clause.id for clause in certificate.clauses if clause.verdict in verdicts]


def _totals(certificate: Certificate) -> dict[str, int]:
    """Return sums over all clauses, which contradict a certificate in which one number was changed."""
    sums = {name: sum(getattr(clause, name) for clause in certificate.clauses) for name in _COUNTED}
    findings = sum(len(clause.findings) for clause in certificate.clauses)
    return {"clauses": len(certificate.clauses), "findings": findings, **sums}
