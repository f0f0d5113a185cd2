"""Times, the clock, memory and ceilings of a device."""

import subprocess
import sys
import time

import pytest
import torch

from deeplab_spec.measure import device as measured
from deeplab_spec.measure.device import (
    ceilings,
    device_name,
    megahertz,
    peak_bytes,
    reset_peak,
    spin_seconds,
    timed,
    timed_warm,
)
from deeplab_spec.measure.statistics import CeilingsModel

CPU = torch.device("cpu")


def test_ceilings_are_measured_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are positive, and follow from the time of the product and of the copy."""
    monkeypatch.setattr(measured, "_SIDE", {"cpu": 128})
    monkeypatch.setattr(measured, "_COPIED", {"cpu": 2**20})

    limits = ceilings(CPU)
    assert limits.flops_per_second > 0
    assert limits.bytes_per_second > 0

    monkeypatch.setattr(measured, "timed", lambda work, _device: work() is None or 2.0)
    slow = ceilings(CPU)
    assert slow.flops_per_second == 2 * 128**3 / 2
    assert slow.bytes_per_second == 2 * 2**20 / 2


def test_roofline_is_the_slower_of_arithmetic_and_memory() -> None:
    """Computation and transfers overlap."""
    limits = CeilingsModel(flops_per_second=100, bytes_per_second=10)

    assert limits.least_seconds(1000, 10) == 10
    assert limits.least_seconds(100, 1000) == 100


def test_a_wait_is_timed() -> None:
    """The clock runs while the call does."""
    assert timed(lambda: time.sleep(0.02), CPU) >= 0.02
    assert spin_seconds() > 0


_ALLOCATES = """
import torch
from deeplab_spec.measure.device import reset_peak, peak_bytes

cpu = torch.device("cpu")
reset_peak(cpu)
before = peak_bytes(cpu)
tensor = torch.ones(2**24)
grown = peak_bytes(cpu)
del tensor
reset_peak(cpu)
print(grown - before, peak_bytes(cpu) - grown)
"""


def test_peak_memory_grows_with_allocated_tensors_and_is_reset() -> None:
    """By 64 MiB, in a process without unused memory from other work."""
    printed = subprocess.run([sys.executable, "-c", _ALLOCATES], capture_output=True, text=True, check=True).stdout
    grown, left = map(int, printed.split())

    assert grown >= 2**25
    assert left < 0


def test_device_is_named_and_its_clock_read_where_there_is_one() -> None:
    """The name is not empty and the clock not negative."""
    assert device_name(CPU)
    clock = megahertz(CPU)
    assert clock is None or clock > 0


def test_a_warm_run_is_timed_after_untimed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle GPU has lowered its clock, so that its first runs take longer."""
    runs: list[str] = []
    monkeypatch.setattr(measured, "WARM_UP", {"cpu": 3})
    monkeypatch.setattr(measured, "timed", lambda work, _device: runs.append("timed") or work() or 1.0)

    assert timed_warm(lambda: runs.append("run"), CPU) == 1.0
    assert runs == ["run", "run", "run", "timed", "run"]


def test_a_clock_that_cannot_be_read_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML's errors are not RuntimeErrors; a mode must not fail because its clock is unknown."""

    class NVMLError(Exception):
        """As pynvml raises it."""

    def refuse(_device: torch.device) -> int:
        raise NVMLError("Not Supported")

    monkeypatch.setattr(torch.cuda, "clock_rate", refuse)

    assert megahertz(torch.device("cuda")) is None


class Allocator:
    """A fake of torch.cuda's allocator: few bytes in tensors, and a graph's pool, which stays reserved."""

    used, reserved, cached = 10, 300, 500

    def empty_cache(self) -> None:
        """Free the unused memory."""
        self.cached = 0

    def memory_reserved(self, _device: torch.device) -> int:
        """Return the reserved bytes."""
        return self.reserved + self.cached


@pytest.mark.parametrize(("reserved", "expected"), [(300, 300), (4, 10)])
def test_peak_memory_of_a_device_has_the_pool_of_a_graph(
    reserved: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph's intermediate values belong to no tensor; unused memory of the allocator does not count."""
    allocator = Allocator()
    allocator.reserved = reserved
    monkeypatch.setattr(torch.cuda, "empty_cache", allocator.empty_cache)
    monkeypatch.setattr(torch.cuda, "memory_reserved", allocator.memory_reserved)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: allocator.used)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _device: None)
    device = torch.device("cuda")

    reset_peak(device)

    assert peak_bytes(device) == expected
