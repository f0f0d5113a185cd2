"""Makes a certificate again, and compares every field but times, the commit and the last digits of errors.

The digest of the specification is compared; the commit of the program that applies it changes with every commit.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from deeplab_spec.child_process import ProcessSettings
from deeplab_spec.errors import TargetError, printable, require_torch
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.waivers import Waivers
from deeplab_spec.verify.clauses import waivers_of
from deeplab_spec.verify.document import Problem
from deeplab_spec.verify.service import request_of
from deeplab_spec.views.progress import Progress

SKIPPED: Final = frozenset({"seconds", "specification.commit"})
AGREE: Final = 0.1
"""Largest relative difference of two errors that differ in their last digits only."""

ROUNDING: Final = 1e-12
"""An error below this is rounding of float64, and may be anything down to zero."""

_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_ERRORS: Final = re.compile(
    r"float(?:32|64)_(?:error|ratio)$|steps\.\d+\.error$|smallest_input\.|(?:findings\.\d+|divergence)\.actual$"
)


def differences(
    certificate: Certificate, artefact: Path | None, process: ProcessSettings, progress: Progress
) -> Iterator[Problem]:
    """Make a certificate again, and yield every field that differs.

    Raises:
        MissingExtraError: If torch is not installed.
        TargetError: If its target cannot be found or built.
    """
    require_torch("verify --rerun")
    from deeplab_spec.judge.judge import run

    if certificate.settings.existing:
        raise TargetError(certificate.target, "is an object of a program; no name finds it again")
    request = request_of(certificate)
    again = run(replace(request, target=str(artefact)) if artefact else request, progress, process)
    waivers = waivers_of(certificate)
    if certificate.today:
        again = Waivers(entries=waivers, today=certificate.today).applied(again)
    again = again.model_copy(update={"target": certificate.target, "waivers_accepted": certificate.waivers_accepted})
    left, right = (json.loads(each.model_dump_json()) for each in (certificate, again))
    yield from compared(left, right)


def compared(left: Any, right: Any, where: str = "") -> Iterator[Problem]:  # noqa: ANN401 - JSON data
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
        yield Problem(
            where=printable(where), problem=printable(f"is {_short(left)}, but {_short(right)} when made again")
        )


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
