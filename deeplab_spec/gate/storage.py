"""Stores the gate's pairs in the format of pytest-benchmark, so that its ``compare`` command reads them."""

import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median, quantiles, stdev
from typing import Any, Literal

from deeplab_spec.gate.document import CaseResultModel, GateDocument
from deeplab_spec.views.document import write_whole, written_together

Json = dict[str, Any]

_FORMAT = "5.3.1"
"""The version of pytest-benchmark whose format this is."""


def store(document: GateDocument, folder: Path) -> None:
    """Write the next numbered file of a storage folder, as pytest-benchmark does.

    Raises:
        TargetError: If the file cannot be written.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    place = folder / f"{platform.system()}-{platform.python_implementation()}-{python}-{platform.architecture()[0]}"
    numbers = [int(path.name[:4]) for path in place.glob("*.json") if path.name[:4].isdecimal()]
    with written_together(place) as new:
        write_whole(new / f"{max(numbers, default=0) + 1:04}_gate.json", f"{_content(document)}\n")


def _content(document: GateDocument) -> str:
    """Return two benchmarks per case with pairs, ``CASE[base]`` and ``CASE[head]``; a round is one process's median."""
    machine = document.machine
    content = {
        "machine_info": {
            "node": f"{platform.system()}-{platform.machine()}",
            "processor": machine["processor"],
            "machine": machine["processor"],
            "python_implementation": "CPython",
            "python_version": machine["python"],
            "release": "",
            "system": machine["system"],
            "cpu": {"count": machine["cores"]},
        },
        "commit_info": _commit(),
        "benchmarks": [
            _benchmark(document, result, role)
            for result in document.cases
            if result.timing.pairs
            for role in ("base", "head")
        ],
        "datetime": datetime.now(UTC).isoformat(),
        "version": _FORMAT,
    }
    return json.dumps(content, indent=4)


def _benchmark(document: GateDocument, result: CaseResultModel, role: Literal["base", "head"]) -> Json:
    name = f"{result.case.name}[{role}]"
    estimate = result.timing.decision.estimate
    return {
        "group": result.case.name,
        "name": name,
        "fullname": f"gate::{name}",
        "params": None,
        "param": role,
        "extra_info": {
            "side": getattr(document, role),
            "verdict": result.verdict,
            "estimate": estimate.model_dump() if estimate else None,
            "dropped": result.timing.dropped,
            "case": result.case.model_dump(mode="json"),
            "plant": document.plant.model_dump() if document.plant else None,
        },
        "options": {
            "disable_gc": False,
            "timer": "perf_counter" if result.case.device == "cpu" else "cuda events",
            "min_rounds": result.case.rounds,
            "max_time": 0.0,
            "min_time": 0.0,
            "warmup": True,
        },
        "stats": _stats([getattr(pair, f"{role}_seconds") for pair in result.timing.pairs]),
    }


def _stats(seconds: Sequence[float]) -> Json:
    several = len(seconds) > 1
    q1, _, q3 = quantiles(seconds, n=4, method="inclusive") if several else (seconds[0],) * 3
    deviation = stdev(seconds) if several else 0.0
    centre, low, high = mean(seconds), q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    far = sum(abs(value - centre) > deviation for value in seconds)
    outside = sum(not low <= value <= high for value in seconds)
    return {
        "min": min(seconds),
        "max": max(seconds),
        "mean": centre,
        "stddev": deviation,
        "rounds": len(seconds),
        "median": median(seconds),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": outside,
        "stddev_outliers": far,
        "outliers": f"{far};{outside}",
        "ld15iqr": min(value for value in seconds if value >= low),
        "hd15iqr": max(value for value in seconds if value <= high),
        "ops": 1 / centre,
        "total": sum(seconds),
        "data": list(seconds),
        "iterations": 1,
    }


def _commit() -> Json:
    """Return what git reports about the working directory; an ``error`` if it is not a repository."""
    identity = _git("rev-parse", "HEAD")
    if not identity:
        return {"id": "unknown", "time": None, "author_time": None, "dirty": False, "error": "no git", "branch": ""}
    return {
        "id": identity,
        "time": _git("show", "-s", "--format=%cI", "HEAD"),
        "author_time": _git("show", "-s", "--format=%aI", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "branch": _git("rev-parse", "--abbrev-ref", "HEAD"),
    }


def _git(*arguments: str) -> str:
    """Return what a git command prints; empty if it fails."""
    try:
        result = subprocess.run(
            ["git", *arguments],  # noqa: S607 - the user's git
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
