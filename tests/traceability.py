"""Which check decides each clause, which tests name it, and which planted fault it catches before any other clause.

``python -m tests.traceability > reports/clauses.md`` writes the page; a test holds it against what is true.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from deeplab_spec.checks.catalogue import CHECKS
from deeplab_spec.checks.evidence import Evidence
from deeplab_spec.checks.verdicts import Verdict
from deeplab_spec.judge.alone import structure
from deeplab_spec.judge.canaries.canary import Canary
from deeplab_spec.judge.decisions import check_of
from deeplab_spec.judge.observe import AtStride, Stages, observe
from deeplab_spec.judge.plan import plan, telling_sizes
from deeplab_spec.judge.request import DTYPES, Request
from deeplab_spec.judge.subjects import candidate
from deeplab_spec.mutate.catalogue import catalogue
from deeplab_spec.mutate.mutant import Shows
from deeplab_spec.render.markdown import markdown
from deeplab_spec.render.table import Grid
from deeplab_spec.spec.clauses import CLAUSES
from tests.checks.test_decisions import FAILING

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "reports" / "clauses.md"
SUBJECTS = ("notebook", "tf-release")
SMALL = ("width=0.03125", "middle_blocks=2")
FAILING_CASES = "checks/test_decisions.py"
OWN = {"traceability.py", "test_traceability.py"}


def checks() -> dict[str, str]:
    """Return the function that decides each clause."""
    return {name: _name(check) for name, check in CHECKS.items()}


def _name(check: Callable[..., object]) -> str:
    while isinstance(check, partial):
        inner = next((value for value in check.args if callable(value)), None)
        check = inner or check.func
    module = check.__module__.removeprefix("deeplab_spec.")
    return f"{module}.{check.__qualname__.split('.')[0]}"


def tests() -> dict[str, tuple[str, ...]]:
    """Return the test files that name each clause; every clause is in that of failing cases, by what is wrong."""
    found: dict[str, list[str]] = {name: [f"{FAILING_CASES} ({len(cases)})"] for name, cases in FAILING.items()}
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(TESTS.rglob("*.py")) if path.name not in OWN}
    for clause in CLAUSES:
        files = [str(path.relative_to(TESTS)) for path, text in texts.items() if f'"{clause.id}"' in text]
        found.setdefault(clause.id, []).extend(name for name in files if name != FAILING_CASES)
    return {name: tuple(paths) for name, paths in found.items()}


def caught() -> dict[str, str]:
    """Return, for each clause, a wrong network that it catches and no clause before it."""
    found: dict[str, str] = {}
    for subject in SUBJECTS:
        found |= {name: fault for name, fault in _mutants(subject) if name not in found}
        stride = _observed(subject)
        for canary in stride.canaries:
            if canary.clause not in found and _first(stride.evidence, canary) == canary.clause:
                found[canary.clause] = f"{canary.fault} ({subject})"
    return found


def _mutants(subject: str) -> Iterator[tuple[str, str]]:
    """Return wrong graphs with the first clause that refuses them: one of each kind in each block."""
    planned = plan(_request(subject), 8)
    image = telling_sizes(planned.network, 8)[0]
    seen = set()
    for mutant in catalogue(planned.network, image).mutants:
        region = (mutant.kind, ".".join(mutant.path.split(".")[:3]))
        if mutant.shows is Shows.EVALUATION and region not in seen:
            seen.add(region)
            failed = structure(planned, mutant.network, image).failed
            yield from ((name, f"{mutant.name} ({subject})") for name in failed[:1])


def _observed(subject: str) -> AtStride:
    """Observe the reference, small, on every level and in a lower precision too."""
    asked, build = candidate(_request(subject))
    return observe(asked, 16, build, None, Stages(lambda *_: None, 1))


def _request(subject: str) -> Request:
    return Request(
        target=f"reference:{subject}",
        variant=subject,
        overrides=SMALL,
        shared_choices=True,
        dtypes=(*DTYPES, "bfloat16"),
    )


def _first(evidence: Evidence, canary: Canary) -> str | None:
    """Return the first clause, in the order of the catalogue, that fails once a fault is planted."""
    wrong = canary.plant(evidence)
    return next((clause.id for clause in CLAUSES if check_of(clause.id, "")(wrong).verdict is Verdict.FAILED), None)


def rows() -> Iterator[tuple[str, str, str, str, str]]:
    """Return the lines of the table."""
    deciding, named, faults = checks(), tests(), caught()
    for clause in CLAUSES:
        files = named[clause.id]
        shown = ", ".join(files[:2]) + (f" and {len(files) - 2} more" if len(files) > 2 else "")
        yield clause.id, clause.sentence, deciding[clause.id], shown, faults.get(clause.id, "")


def page() -> str:
    """Return the page."""
    headers = ("clause", "sentence", "decided by", "tests that name it", "wrong network that it catches first")
    return "\n\n".join(
        (
            "# Clauses, and what holds them",
            "Generated by `python -m tests.traceability > reports/clauses.md`, and compared by a test. The wrong network is a "
            "mutant, or has a fault that every certificate plants; no clause before this one, in this order, refuses it. "
            "What becomes of thousands of wrong networks is in [strength/mutants.md](strength/mutants.md).",
            markdown(Grid(headers=headers, rows=tuple(rows()))),
        )
    )


if __name__ == "__main__":
    sys.stdout.write(f"{page()}\n")
