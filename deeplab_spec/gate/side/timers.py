"""Times a run, in the process whose speed is measured: by the clocks of the thread, or by events on a GPU.

It is loaded by its path and imports torch and the standard library only.
"""

import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

_SPINS = 20_000
"""Rounds of the arithmetic that witnesses the clock: about a millisecond."""

_CYCLES = 2_000_000
"""Cycles that a GPU spins to witness its clock: about a millisecond."""

_WITNESSES = 5
"""How many witnesses a planted wait is measured by."""

_WAKE_SECONDS = 0.02
"""How long a GPU runs untimed before it is timed: idle, it has clocked down to a fraction."""

Run = Callable[[], object]
Sample = dict[str, Any]


class CpuTimer:
    """Times a run by the clocks of its thread.

    Args:
        run: What is timed.
        wait: The planted wait, as a share of the run's own time.
        clocks: The module that reads the clocks.
    """

    def __init__(self, run: Run, wait: float, clocks: Any) -> None:  # noqa: ANN401 - a module that is found by its path
        self.run = run
        self.wait = wait
        self.clocks = clocks

    def sample(self) -> Sample:
        """Witness the clock, and time a run."""
        return {"witness": self.witness(), "seconds": self.seconds()}

    def seconds(self) -> float:
        """Run once; with a planted wait, that share of the run's own time longer."""
        start = self.clocks.now()
        self.run()
        taken = self._since(start)
        wanted = taken * (1 + self.wait)
        while taken < wanted:
            taken = self._since(start)
        return taken

    def witness(self) -> float:
        """Return the seconds that a fixed piece of arithmetic takes."""
        start = self.clocks.now()
        value = 1
        for _ in range(_SPINS):
            value = value * 1664525 + 1013904223 & 0xFFFFFFFF
        return self._since(start)

    def _since(self, start: object) -> float:
        return float(self.clocks.between(start, self.clocks.now()))


class GpuTimer:
    """Times a run by events on the device; a planted wait is in cycles of the device's clock.

    Args:
        run: What is timed.
        wait: The planted wait, as a share of the run's own time.
        clocks: The module that reads the clocks.
    """

    def __init__(self, run: Run, wait: float, clocks: Any) -> None:  # noqa: ANN401 - a module that is found by its path
        self.run = run
        self.clock = clocks.GpuClock()
        self.cycles = 0
        if wait:
            self.wake()
            usual = statistics.median(self.seconds() for _ in range(_WITNESSES))
            spun = statistics.median(self.witness() for _ in range(_WITNESSES))
            self.cycles = round(wait * usual * _CYCLES / spun)

    def sample(self) -> Sample:
        """Wake the device, witness its clock, time a run, and read the clock while it has not yet gone down."""
        self.wake()
        timed = {"witness": self.witness(), "seconds": self.seconds()}
        return {**timed, "mhz": self.clock.mhz(), "slowed_by": self.clock.slowed_by()}

    def wake(self) -> None:
        """Run without a clock until the device has had time to clock up; once at least."""
        start = perf_counter()
        while True:
            self.run()
            torch.cuda.synchronize()
            if perf_counter() - start >= _WAKE_SECONDS:
                return

    def seconds(self) -> float:
        """Run once."""

        def work() -> None:
            self.run()
            if self.cycles:
                _spin(self.cycles)

        return self._timed(work)

    def witness(self) -> float:
        """Return the seconds that a fixed number of the device's cycles takes."""
        return self._timed(lambda: _spin(_CYCLES))

    def _timed(self, work: Callable[[], object]) -> float:
        torch.cuda.synchronize()
        start, end = _event(), _event()
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1000


def _spin(cycles: int) -> None:
    torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]  # noqa: SLF001 - the only kernel of known length


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
