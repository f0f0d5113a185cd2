"""Clocks of the process whose speed is measured: time that was its own, and the clock of a GPU.

It is loaded by its path and imports torch and the standard library only.
"""

import importlib
import os
from dataclasses import dataclass
from time import perf_counter, process_time, thread_time
from typing import Any

import torch

_SLOWED = {0x08: "hardware slowdown", 0x20: "temperature", 0x40: "temperature", 0x80: "power brake"}
"""What NVML reports when it slows a GPU to protect it; a power limit is not of these: much work always meets it."""


def _open_statistics() -> int | None:
    """Open what the kernel counts of this thread: nanoseconds on a core, and nanoseconds of waiting for one."""
    try:
        return os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        return None


_STATISTICS = _open_statistics()


@dataclass(frozen=True, slots=True)
class Moment:
    """A reading of the clocks, in seconds.

    Attributes:
        wall: The wall clock.
        waited: How long this thread was ready to run, and another had the core; 0 where no kernel says.
        own: How long this thread has run.
        others: How long the other threads of this process have run.
    """

    wall: float
    waited: float
    own: float
    others: float


def now() -> Moment:
    """Read the clocks, again if another process had the core between two of them."""
    while True:
        waited = _waited()
        own = thread_time()
        wall, others = perf_counter(), process_time() - own
        if _waited() == waited:
            return Moment(wall=wall, waited=waited, own=own, others=others)


def _waited() -> float:
    return int(os.pread(_STATISTICS, 96, 0).split()[1]) / 1e9 if _STATISTICS is not None else 0.0


def between(start: Moment, end: Moment) -> float:
    """Return the seconds between two moments, less those in which another process had the core.

    What this process's own threads may have kept it waiting is not taken off: they are part of what it does.
    """
    waited = (end.waited - start.waited) - (end.others - start.others)
    return max(end.wall - start.wall - max(0.0, waited), end.own - start.own)


class GpuClock:
    """What NVML says of the GPU; everything that keeps it from saying so is "unknown"."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handle: Any = None
        try:
            nvml = importlib.import_module("pynvml")
            nvml.nvmlInit()
            name = str(torch.cuda.get_device_properties().uuid)  # the device's index may be another's in NVML
            self._handle = nvml.nvmlDeviceGetHandleByUUID(name if name.startswith("GPU-") else f"GPU-{name}")
            self._nvml = nvml
        except Exception:  # noqa: BLE001 - NVML's errors are of no built-in kind
            self._nvml = None

    def mhz(self) -> int | None:
        """Return the clock of the multiprocessors; None where it is unknown."""
        try:
            return int(torch.cuda.clock_rate())
        except Exception:  # noqa: BLE001 - NVML's errors are of no built-in kind
            return None

    def slowed_by(self) -> str:
        """Return why the GPU is slowed to protect it; empty where it is not, or where that is unknown."""
        try:
            reasons = int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))
        except Exception:  # noqa: BLE001 - NVML's errors are of no built-in kind
            return ""
        return ", ".join(dict.fromkeys(name for bit, name in _SLOWED.items() if reasons & bit))
