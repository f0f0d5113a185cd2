"""Times a run inside the measured process: by the clocks of its thread, or by CUDA events.

This file is loaded by its path. It imports torch and the standard library only.
"""

import importlib
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time, thread_time
from typing import Any

import torch

_SPINS = 20_000
"""Loop iterations of the witness on a CPU: about a millisecond."""

_CYCLES = 2_000_000
"""Cycles of the witness on a GPU: about a millisecond."""

_WITNESSES = 5
"""Runs and witnesses whose medians set the length of a planted wait on a GPU."""

_WAKE_SECONDS = 0.02
"""How long a GPU runs before it is timed: an idle GPU lowers its clock."""

_SLOWED = {0x08: "hardware slowdown", 0x20: "temperature", 0x40: "temperature", 0x80: "power brake"}
"""NVML's reasons for slowing a GPU to protect it. The power limit is not among them: heavy work always reaches it."""

Run = Callable[[], object]
Sample = dict[str, Any]


def _open_statistics() -> int | None:
    """Open the kernel's counters of this thread: nanoseconds on a core, and nanoseconds of waiting for one."""
    try:
        return os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        return None


_STATISTICS = _open_statistics()


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of all clocks, in seconds.

    Attributes:
        wall: The wall clock.
        waited: How long this thread was ready to run while its core ran something else; 0 if the kernel does
            not count it.
        own: CPU time of this thread.
        others: CPU time of the other threads of this process.
    """

    wall: float
    waited: float
    own: float
    others: float


def now() -> Moment:
    """Read the clocks, and read them again if the thread lost its core in between."""
    while True:
        waited = _waited()
        own = thread_time()
        wall, others = perf_counter(), process_time() - own
        if _waited() == waited:
            return Moment(wall=wall, waited=waited, own=own, others=others)


def _waited() -> float:
    return int(os.pread(_STATISTICS, 96, 0).split()[1]) / 1e9 if _STATISTICS is not None else 0.0


def between(start: Moment, end: Moment) -> float:
    """Return the seconds between two moments, without those in which another process had the core.

    Time spent waiting for threads of this process counts: they belong to what is timed.
    """
    waited = (end.waited - start.waited) - (end.others - start.others)
    return max(end.wall - start.wall - max(0.0, waited), end.own - start.own)


class CpuTimer:
    """Times a run by the clocks of its thread.

    Args:
        run: What is timed.
        wait: The planted wait, as a share of the run's own time.
    """

    def __init__(self, run: Run, wait: float) -> None:
        self.run = run
        self.wait = wait

    def sample(self) -> Sample:
        """Time the witness, then a run."""
        return {"witness": self.witness(), "seconds": self.seconds()}

    def seconds(self) -> float:
        """Run once, then wait for the planted share of the run's time; return the seconds of both."""
        start = now()
        self.run()
        taken = between(start, now())
        end = taken * (1 + self.wait)
        while taken < end:
            taken = between(start, now())
        return taken

    def witness(self) -> float:
        """Return the seconds of a fixed piece of arithmetic."""
        start = now()
        value = 1
        for _ in range(_SPINS):
            value = value * 1664525 + 1013904223 & 0xFFFFFFFF
        return between(start, now())


class GpuTimer:
    """Times a run by CUDA events. A planted wait is a number of GPU cycles."""

    def __init__(self, run: Run, wait: float) -> None:
        self.run = run
        self.clock = GpuClock()
        self.cycles = 0
        if wait:
            self.wake()
            usual = statistics.median(self.seconds() for _ in range(_WITNESSES))
            spun = statistics.median(self.witness() for _ in range(_WITNESSES))
            self.cycles = round(wait * usual * _CYCLES / spun)

    def sample(self) -> Sample:
        """Wake the GPU, time the witness and a run, and read the clock before the GPU lowers it again."""
        self.wake()
        timed = {"witness": self.witness(), "seconds": self.seconds()}
        return {**timed, "mhz": self.clock.mhz(), "slowed_by": self.clock.slowed_by()}

    def wake(self) -> None:
        """Run at least once, untimed, until the GPU has had time to raise its clock."""
        start = perf_counter()
        while True:
            self.run()
            torch.cuda.synchronize()
            if perf_counter() - start >= _WAKE_SECONDS:
                return

    def seconds(self) -> float:
        """Run once, with the planted wait; return the seconds."""

        def work() -> None:
            self.run()
            if self.cycles:
                _spin(self.cycles)

        return _timed(work)

    def witness(self) -> float:
        """Return the seconds of a fixed number of GPU cycles."""
        return _timed(lambda: _spin(_CYCLES))


def _timed(work: Run) -> float:
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


def _spin(cycles: int) -> None:
    torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]  # noqa: SLF001 - the only kernel of known length


class GpuClock:
    """What NVML reports about the GPU; a value that cannot be read is unknown."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handle: Any = None
        try:
            nvml = importlib.import_module("pynvml")
            nvml.nvmlInit()
            name = str(torch.cuda.get_device_properties().uuid)  # NVML may number the devices differently
            self._handle = nvml.nvmlDeviceGetHandleByUUID(name if name.startswith("GPU-") else f"GPU-{name}")
            self._nvml = nvml
        except Exception:  # noqa: BLE001 - NVML's errors derive from Exception only
            self._nvml = None

    def mhz(self) -> int | None:
        """Return the clock of the multiprocessors; None if unknown."""
        try:
            return int(torch.cuda.clock_rate())
        except Exception:  # noqa: BLE001 - NVML's errors derive from Exception only
            return None

    def slowed_by(self) -> str:
        """Return why the GPU is slowed to protect it; empty if it is not, or if that is unknown."""
        try:
            reasons = int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))
        except Exception:  # noqa: BLE001 - NVML's errors derive from Exception only
            return ""
        return ", ".join(dict.fromkeys(name for bit, name in _SLOWED.items() if reasons & bit))
