"""The gate's pairs in the form that pytest-benchmark stores, so that its ``compare`` reads them."""

import json
from collections.abc import Sequence
from statistics import mean, median, quantiles, stdev
from typing import Any

from deeplab_spec.gate.document import CaseResultModel, GateDocument

Json = dict[str, Any]

_FORMAT = "5.3.1"
"""The version of pytest-benchmark whose form this is."""


def storage(document: GateDocument, *, commit: Json, node: str, when: str) -> str:
    """Return the file's content: two benchmarks per case, ``CASE[base]`` and ``CASE[head]``.

    A round of a benchmark is the median of one process. Cases without pairs are left out.

    Args:
        document: The verdict.
        commit: What is known of the commit: ``id``, ``branch``, ``dirty``, ``time``.
        node: Name of the machine.
        when: Date and time, in ISO 8601.
    """
    machine = document.machine
    content = {
        "machine_info": {
            "node": node,
            "processor": machine["processor"],
            "machine": machine["processor"],
            "python_implementation": "CPython",
            "python_version": machine["python"],
            "release": "",
            "system": machine["system"],
            "cpu": {"count": machine["cores"]},
        },
        "commit_info": commit,
        "benchmarks": [entry for result in document.cases if result.timing.pairs for entry in _sides(document, result)],
        "datetime": when,
        "version": _FORMAT,
    }
    return json.dumps(content, indent=4)


def _sides(document: GateDocument, result: CaseResultModel) -> list[Json]:
    return [
        _benchmark(document, result, "base", document.base, [pair.base_seconds for pair in result.timing.pairs]),
        _benchmark(document, result, "head", document.head, [pair.head_seconds for pair in result.timing.pairs]),
    ]


def _benchmark(document: GateDocument, result: CaseResultModel, role: str, side: str, seconds: Sequence[float]) -> Json:
    name = f"{result.case.name}[{role}]"
    estimate = result.timing.decision.estimate
    return {
        "group": result.case.name,
        "name": name,
        "fullname": f"gate::{name}",
        "params": None,
        "param": role,
        "extra_info": {
            "side": side,
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
        "stats": _stats(seconds),
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
