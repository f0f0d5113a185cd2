"""Runs a judgement in a child process, which is this file as a program: a crash there cannot take the caller down."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from deeplab_spec.child_process import PASSIVE, ChildProcess, answers, python_module
from deeplab_spec.errors import ChildError, DeepLabSpecError, TargetError, require_torch
from deeplab_spec.judge.certificate import Certificate, ClauseRecord
from deeplab_spec.judge.finding import Finding, RunVerdict, Verdict, combined
from deeplab_spec.judge.request import ADAPTER, Request
from deeplab_spec.spec.choices import plain
from deeplab_spec.spec.clauses import clause as clause_named
from deeplab_spec.views.progress import Progress

_ENVIRONMENT: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # the C library keeps freed maps, instead of asking for them again
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
}

CRASH_CLAUSE = "OUTPUT-TENSOR"
"""The clause that a candidate fails by ending the process."""


def run(request: Request, progress: Progress, search: Sequence[Path] = ()) -> Certificate:
    """Judge a candidate in a child process.

    Args:
        request: What is judged, against what, and how.
        progress: Called with the stage, the number of stages done, and their total.
        search: Directories that are searched first for the candidate's module.

    Raises:
        MissingExtraError: If torch is not installed.
        TargetError: If the target cannot be imported or built.
    """
    require_torch("certify")
    environment = {**PASSIVE, **_ENVIRONMENT, **os.environ}
    if search:
        environment["PYTHONPATH"] = os.pathsep.join([*map(str, search), os.environ.get("PYTHONPATH", "")])
    stage, message = "", ""
    certificate: Certificate | None = None
    with ChildProcess(python_module("deeplab_spec.judge.candidate"), environment) as child:
        child.send(ADAPTER.dump_json(request).decode())
        try:
            while True:
                event = child.receive()
                match event["event"]:
                    case "progress":
                        stage = event["stage"]
                        progress(stage, event["done"], event["total"])
                    case "could not run":
                        message = event["message"]
                    case "certificate":
                        certificate = Certificate.model_validate(event["certificate"])
        except ChildError as error:
            ending = error.reason
    if certificate:
        return certificate
    if message:
        raise TargetError(request.target, message.removeprefix(f"{request.target}: "))
    if not stage or stage.endswith("building"):
        raise TargetError(request.target, f"{ending} while it was being built")
    return _crashed(request, f"{ending} during {stage}")


def _crashed(request: Request, reason: str) -> Certificate:
    """Write the certificate of a candidate that ended its process: nothing else is decided."""
    output_stride = request.strides[0]
    finding = Finding(
        path="output",
        candidate_path=None,
        attribute="process",
        choice=None,
        expected="a tensor",
        actual=reason,
        hint="",
        output_stride=output_stride,
    )
    requested = request.clauses
    if CRASH_CLAUSE not in {clause.id for clause in requested}:
        requested = (clause_named(CRASH_CLAUSE), *requested)
    clauses = tuple(
        ClauseRecord(
            id=clause.id,
            level=clause.level.value,
            verdict=Verdict.FAILED if clause.id == CRASH_CLAUSE else Verdict.UNDECIDED,
            decisions=int(clause.id == CRASH_CLAUSE),
            reason="" if clause.id == CRASH_CLAUSE else "the candidate ended the process earlier",
            findings=(finding,) if clause.id == CRASH_CLAUSE else (),
        )
        for clause in requested
    )
    levels = {clause.level.value for clause in requested}
    return Certificate(
        target=request.target,
        variant=request.variant,
        against=request.against,
        choices={name: plain(value) for name, value in request.overridden.items()},
        part=request.part,
        classes=request.class_count,
        seed=request.seed,
        verdict=RunVerdict.DEVIATES,
        levels={
            level: combined(clause.verdict for clause in clauses if clause.level == level) for level in sorted(levels)
        },
        cases=(),
        clauses=clauses,
        nearest=None,
        first_divergence=None,
        versions={},
        seconds=0.0,
    )


def work(request: Request, send: Callable[[Mapping[str, object]], None]) -> None:
    """Judge in the child process, and send what happens as events."""
    from deeplab_spec.judge.build import candidate, reference_reader
    from deeplab_spec.judge.judge import judge

    def progress(stage: str, done: int, total: int) -> None:
        send({"event": "progress", "stage": stage, "done": done, "total": total})

    try:
        request, references = reference_reader(request)
        completed, build = candidate(request)
        certificate = judge(completed, build, progress, references)
    except DeepLabSpecError as error:
        send({"event": "could not run", "message": str(error)})
    else:
        send({"event": "certificate", "certificate": certificate.model_dump(mode="json")})


if __name__ == "__main__":
    with answers() as send_event:
        work(ADAPTER.validate_json(sys.stdin.readline()), send_event)
