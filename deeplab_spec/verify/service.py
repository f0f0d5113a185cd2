"""Verifies a certificate: offline, without torch and without the candidate, or by making it again.

In one that is made again, every field is compared but times, the commit and the last digits of errors. The digest of
the specification is compared; the commit of the program that applies it changes with every commit.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from deeplab_spec.capture.candidate.start import HERE, ProcessSettings
from deeplab_spec.errors import SpecError, TargetError, printable, require_torch
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.specification import digest_of
from deeplab_spec.judge.waivers import Waivers
from deeplab_spec.spec.clauses import Level
from deeplab_spec.verify import clauses, fields
from deeplab_spec.verify.document import Problem, Reason, VerifyDocument
from deeplab_spec.verify.statement import MOST_BYTES, RefusedError, check_signature, payload_of, read
from deeplab_spec.views.document import digest_of_file, read_bounded
from deeplab_spec.views.progress import Progress, silent

SKIPPED: Final = frozenset({"seconds", "specification.commit"})
AGREE: Final = 0.1
"""Largest relative difference of two errors that differ in their last digits only."""

ROUNDING: Final = 1e-12
"""An error below this is rounding of float64, and may be anything down to zero."""

_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_ERRORS: Final = re.compile(
    r"float(?:32|64)_(?:error|ratio)$|steps\.\d+\.error$|smallest_input\.|(?:findings\.\d+|divergence)\.actual$"
)

OFFLINE = "form, digests, completeness, numbers of decisions, verdicts and findings"


def verify(
    path: Path,
    artefact: Path | None = None,
    *,
    rerun: bool = False,
    identity: str = "",
    issuer: str = "",
    process: ProcessSettings = HERE,
    progress: Progress = silent,
) -> VerifyDocument:
    """Check a certificate.

    Args:
        path: The statement, or the bundle that ``sign`` made of one.
        artefact: The file that it must certify.
        rerun: Whether to make it again, which imports and runs the target.
        identity: Who must have signed it, e.g. a mail address or the URL of a workflow; empty for anybody.
        issuer: Who vouches for the identity; empty for anybody.
        process: How the target's process is started.
        progress: Called with every stage of the run.

    Raises:
        TargetError: If a file cannot be read, or the target cannot be built.
    """
    content = read_bounded(path, MOST_BYTES)
    checked: list[str] = []
    try:
        certificate = read(_statement(content, identity, issuer, checked))
    except RefusedError as error:
        return _document(path, None, [*checked, "form and digests"], [error.args])
    checked, problems = [*checked, OFFLINE], list(_problems(certificate))
    if artefact:
        checked.append(f"the digest of {artefact}")
        problems += _of_artefact(certificate, artefact)
    if rerun and not problems:
        checked.append(f"made again with seed {certificate.seed}")
        problems += _made_again(certificate, artefact, process, progress)
    return _document(path, certificate, checked, problems)


def _statement(content: bytes, identity: str, issuer: str, checked: list[str]) -> bytes:
    """Return the statement in a file, and add whose signature was checked."""
    statement, signed = payload_of(content)
    if identity and not signed:
        raise RefusedError("signature", "there is none: the file is no bundle")
    if identity:
        check_signature(content, identity, issuer or None)
    if signed:
        checked.append(f"the signature of {identity}" if identity else "not its signature: --identity says whose it is")
    return statement


def _document(
    path: Path, certificate: Certificate | None, checked: list[str], problems: Iterable[tuple[str, ...]]
) -> VerifyDocument:
    return VerifyDocument(
        certificate=str(path),
        target=certificate.target if certificate else None,
        verdict=certificate.verdict if certificate else None,
        checked=tuple(checked),
        problems=tuple(Problem(where=where, problem=problem) for where, problem in problems),
    )


def request_of(certificate: Certificate) -> Request:
    """Return the request that a certificate answers.

    Raises:
        SpecError: If there can be no such request.
    """
    fixed = certificate.settings
    if not set(fixed.levels) <= set(Level):
        raise SpecError("settings.levels", f"must be of {', '.join(Level)}", ", ".join(fixed.levels))
    return Request(
        target=certificate.target,
        variant=certificate.variant,
        against=certificate.against,
        part=certificate.part,
        classes=certificate.classes,
        seed=certificate.seed,
        **{**dict(fixed), "levels": tuple(map(Level, fixed.levels))},
    )


def _problems(certificate: Certificate) -> Iterator[Reason]:
    """Yield every reason to refuse what a certificate says."""
    try:
        request = request_of(certificate)
        made = certificate.specification
        if made is None or made.digest != digest_of(request):
            by = f"{made.version} {made.commit}".strip() if made else "none"
            yield "specification", f"is another one ({by}); install that release to verify it"
            return
        yield from fields.settings(certificate, request)
        yield from fields.subjects(certificate, request)
        yield from clauses.complete(certificate, request)
        yield from clauses.verdicts(certificate)
        yield from clauses.findings(certificate, request)
        yield from fields.waivers(certificate)
        yield from fields.totals(certificate)
        yield from fields.conditioning(certificate)
        yield from fields.steps(certificate)
        yield from fields.divergence(certificate)
        yield from fields.other_network(certificate)
        if request.variant:
            yield from clauses.numbers(certificate, request)
            yield from fields.cases(certificate, request)
            yield from fields.nearest(certificate, request)
            yield from fields.costs(certificate, request)
            yield from clauses.structure(certificate, request)
    except SpecError as error:
        yield "certificate", str(error)


def _of_artefact(certificate: Certificate, artefact: Path) -> Iterator[Reason]:
    if certificate.file is None:
        yield "file", f"{certificate.target} is no file, so that no file can be compared"
    elif digest_of_file(artefact) != certificate.file:
        yield "file", f"{artefact} is another file than the certified one"


def _made_again(
    certificate: Certificate, artefact: Path | None, process: ProcessSettings, progress: Progress
) -> Iterator[Reason]:
    """Make a certificate again, and yield every field that differs."""
    require_torch("verify --rerun")
    from deeplab_spec.judge.judge import run

    if certificate.settings.existing:
        raise TargetError(certificate.target, "is an object of a program; no name finds it again")
    request = request_of(certificate)
    again = run(replace(request, target=str(artefact)) if artefact else request, progress, process)
    if certificate.today:
        again = Waivers(entries=clauses.waivers_of(certificate), today=certificate.today).applied(again)
    again = again.model_copy(update={"target": certificate.target, "waivers_accepted": certificate.waivers_accepted})
    left, right = (json.loads(each.model_dump_json()) for each in (certificate, again))
    yield from compared(left, right)


def compared(left: Any, right: Any, where: str = "") -> Iterator[Reason]:  # noqa: ANN401 - JSON data
    """Yield where two documents differ."""
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        places = {f"{where}.{name}" if where else name: name for name in left}
        for place, name in places.items():
            if place not in SKIPPED:
                yield from compared(left[name], right[name], place)
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, pair in enumerate(zip(left, right, strict=True)):
            yield from compared(*pair, f"{where}.{number}")
    elif left != right and not (_ERRORS.search(where) and _agree(left, right)):
        yield printable(where), printable(f"is {_short(left)}, but {_short(right)} when made again")


def _agree(left: object, right: object) -> bool:
    """Tell whether two errors, or two texts with errors, differ in the last digits only."""
    if isinstance(left, str) and isinstance(right, str):
        pairs = zip(_NUMBER.findall(left), _NUMBER.findall(right), strict=False)
        same = _NUMBER.sub("#", left) == _NUMBER.sub("#", right)
        return same and all(a == b or (not (a + b).isdigit() and _agree(float(a), float(b))) for a, b in pairs)
    if isinstance(left, float) and isinstance(right, float):
        largest = max(abs(left), abs(right))
        return largest <= ROUNDING or abs(left - right) <= AGREE * largest
    return False


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."  # noqa: PLR2004 - the length of a readable line
