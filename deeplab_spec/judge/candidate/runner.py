"""Runs a judgement in a process of its own, so that a candidate can end only that."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from deeplab_spec.errors import MissingExtraError, TargetError
from deeplab_spec.judge.certificate import Certificate, ClauseRecord
from deeplab_spec.judge.finding import Finding, RunVerdict, Verdict, together
from deeplab_spec.judge.request import ADAPTER, Request
from deeplab_spec.spec.choices import plain
from deeplab_spec.spec.clauses import clause as clause_named

Progress = Callable[[str, int, int], None]

_ENVIRONMENT: Final = {
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin starve other processes
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # the C library keeps freed maps, instead of asking for them again
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
}

CRASH_CLAUSE = "OUTPUT-TENSOR"
"""The clause that a candidate fails by ending the process."""


def run(request: Request, progress: Progress, search: Sequence[Path] = ()) -> Certificate:
    """Judge a candidate in a child process.

    Args:
        request: What is asked.
        progress: Told the stage, how many are done, and how many there are.
        search: Folders in which the candidate's module is looked for first.

    Raises:
        MissingExtraError: If torch is not installed.
        TargetError: If the target cannot be imported or built.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("certify", "torch")
    reading, writing = os.pipe()
    command = [sys.executable, "-W", "ignore", "-m", "deeplab_spec.judge.candidate.worker", str(writing)]
    environment = {**_ENVIRONMENT, **os.environ}
    if search:
        environment["PYTHONPATH"] = os.pathsep.join([*map(str, search), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[writing], env=environment) as child:
        os.close(writing)
        if child.stdin:
            with child.stdin as stdin:
                stdin.write(ADAPTER.dump_json(request))
        stage, certificate, message = _follow(reading, progress)
    if certificate:
        return certificate
    if message:
        raise TargetError(request.target, message.removeprefix(f"{request.target}: "))
    ended = _ending(child.returncode)
    if not stage or stage.endswith("building"):
        raise TargetError(request.target, f"{ended} while it was being built")
    return _crashed(request, f"{ended} during {stage}")


def _follow(reading: int, progress: Progress) -> tuple[str, Certificate | None, str]:
    """Read events until the child ends; return the last stage, the certificate and the message."""
    stage, certificate, message = "", None, ""
    with os.fdopen(reading, encoding="utf-8") as events:
        for line in events:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                break  # the child ended in the middle of a line
            match event["event"]:
                case "progress":
                    stage = event["stage"]
                    progress(stage, event["done"], event["total"])
                case "could not run":
                    message = event["message"]
                case "certificate":
                    certificate = Certificate.model_validate(event["certificate"])
    return stage, certificate, message


def _ending(code: int) -> str:
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    return f"the process ended with exit status {code}"


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
    wanted = request.clauses
    if CRASH_CLAUSE not in {clause.id for clause in wanted}:
        wanted = (clause_named(CRASH_CLAUSE), *wanted)
    clauses = tuple(
        ClauseRecord(
            id=clause.id,
            level=clause.level.value,
            verdict=Verdict.FAILED if clause.id == CRASH_CLAUSE else Verdict.UNDECIDED,
            decisions=int(clause.id == CRASH_CLAUSE),
            reason="" if clause.id == CRASH_CLAUSE else "the candidate ended the process earlier",
            findings=(finding,) if clause.id == CRASH_CLAUSE else (),
        )
        for clause in wanted
    )
    levels = {clause.level.value for clause in wanted}
    return Certificate(
        target=request.target,
        variant=request.variant,
        against=request.against,
        choices={name: plain(value) for name, value in request.decided.items()},
        part=request.part,
        classes=request.class_count,
        seed=request.seed,
        verdict=RunVerdict.DEVIATES,
        levels={
            level: together(clause.verdict for clause in clauses if clause.level == level) for level in sorted(levels)
        },
        cases=(),
        clauses=clauses,
        nearest=None,
        first_divergence=None,
        versions={},
        seconds=0.0,
    )
