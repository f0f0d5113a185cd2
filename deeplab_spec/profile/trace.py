"""Reads the traces that torch.profiler exports, and writes the copy that TensorBoard understands.

Times are whole nanoseconds, so that parts of a step add up to the step exactly.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deeplab_spec.errors import TargetError
from deeplab_spec.views.document import write_whole

OPERATOR: Final = "cpu_op"
RANGE: Final = "user_annotation"
LAUNCHES: Final = frozenset({"cuda_runtime", "cuda_driver", "runtime"})
ON_DEVICE: Final = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
STEP: Final = "ProfilerStep#"
"""Prefix of the range of a step; torch-tb-profiler finds steps by it."""

RENAMED: Final = {"cuda_runtime": "runtime", "cuda_driver": "runtime"}
"""Categories of today's traces, and their names in torch-tb-profiler 0.4.3."""

_READ: Final = frozenset({OPERATOR, RANGE}) | LAUNCHES | ON_DEVICE


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event with a duration.

    Attributes:
        name: Name of the operator, range, call or kernel.
        category: The exporter's category.
        thread: The thread that it ran in.
        start: In nanoseconds.
        end: In nanoseconds.
        correlation: Number that a launch shares with its kernel; None for others.
        sequence: Number that a forward operator shares with its backward function; None without a gradient.
    """

    name: str
    category: str
    thread: str
    start: int
    end: int
    correlation: int | None = None
    sequence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """An allocation, or a release.

    Attributes:
        thread: The thread that made it.
        time: In nanoseconds.
        on_device: Whether it is the accelerator's memory.
        change: Bytes, negative when released.
        total: Bytes allocated after it.
    """

    thread: str
    time: int
    on_device: bool
    change: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The parts of a trace that are used here.

    Attributes:
        events: Operators, ranges, launches and kernels, by start; an event comes before those that it contains.
        allocations: By time; empty unless the profiler recorded memory.
    """

    events: tuple[Event, ...]
    allocations: tuple[Allocation, ...] = ()


def read(path: Path) -> Trace:
    """Read an exported trace.

    Raises:
        TargetError: If the file is not a trace.
    """
    try:
        return parse(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TargetError(str(path), f"cannot be read as a trace: {type(error).__name__}: {error}") from error


def parse(document: Mapping[str, Any]) -> Trace:
    """Read a trace from its JSON document."""
    records = document["traceEvents"]
    events = [_event(record) for record in records if record.get("ph") == "X" and record.get("cat") in _READ]
    allocations = [_allocation(record) for record in records if record.get("name") == "[memory]"]
    return Trace(
        events=tuple(sorted(events, key=lambda event: (event.start, -event.end))),
        allocations=tuple(sorted(allocations, key=lambda allocation: allocation.time)),
    )


def for_tensorboard(source: Path, destination: Path) -> None:
    """Write a copy of a trace with the categories of torch-tb-profiler, atomically.

    Its parser recognises launches by their old category only: without them the device time is 0.
    """
    document = json.loads(source.read_bytes())
    for record in document["traceEvents"]:
        if record.get("cat") in RENAMED:
            record["cat"] = RENAMED[record["cat"]]
    write_whole(destination, json.dumps(document))


def _event(record: Mapping[str, Any]) -> Event:
    more = record.get("args", {})
    start = _nanoseconds(record["ts"])
    return Event(
        name=record["name"],
        category=record["cat"],
        thread=_thread(record),
        start=start,
        end=start + _nanoseconds(record["dur"]),
        correlation=more.get("correlation"),
        sequence=more.get("Sequence number"),
    )


def _allocation(record: Mapping[str, Any]) -> Allocation:
    more = record["args"]
    return Allocation(
        thread=_thread(record),
        time=_nanoseconds(record["ts"]),
        on_device=more["Device Type"] != 0,
        change=more["Bytes"],
        total=more["Total Allocated"],
    )


def _thread(record: Mapping[str, Any]) -> str:
    return f"{record['pid']}/{record['tid']}"


def _nanoseconds(microseconds: float) -> int:
    return round(1000 * microseconds)
