"""Ceilings, times, their ratios, and memory."""

import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.measure import roofline, timing
from deeplab_spec.measure.memory import forget_peak, peak_bytes
from deeplab_spec.measure.roofline import Ceilings, ceilings
from deeplab_spec.measure.timing import device_name, megahertz, paired_ratio, spin_seconds, timed, timed_warm

CPU = torch.device("cpu")


def test_ceilings_are_measured_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor computes and copies something in a second; with twice the time it does half."""
    monkeypatch.setattr(roofline, "_SIDE", {"cpu": 128})
    monkeypatch.setattr(roofline, "_COPIED", {"cpu": 2**20})

    found = ceilings(CPU)
    assert found.flops_per_second > 0
    assert found.bytes_per_second > 0

    monkeypatch.setattr(roofline, "timed", lambda work, _device: work() is None or 2.0)
    slow = ceilings(CPU)
    assert slow.flops_per_second == 2 * 128**3 / 2
    assert slow.bytes_per_second == 2 * 2**20 / 2


def test_roofline_is_the_slower_of_arithmetic_and_memory() -> None:
    """Both go on at once."""
    found = Ceilings(flops_per_second=100, bytes_per_second=10)

    assert found.least_seconds(1000, 10) == 10
    assert found.least_seconds(100, 1000) == 100


def test_a_wait_is_timed() -> None:
    """The clock runs while the call does."""
    assert timed(lambda: time.sleep(0.02), CPU) >= 0.02
    assert spin_seconds() > 0


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=3, max_size=40))
def test_ratio_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    """The interval is between ratios that were seen, and holds 95 % where there are six pairs."""
    base, other = zip(*pairs, strict=True)
    ratios = [first / second for first, second in pairs]

    found = paired_ratio(base, other)

    assert found
    assert min(ratios) <= found.low <= found.median <= found.high <= max(ratios)
    assert found.coverage >= (0.95 if len(pairs) >= 6 else 0.5)


def test_ratio_is_of_pairs() -> None:
    """A machine that becomes slower for both changes no ratio; two pairs say nothing."""
    found = paired_ratio([2, 20, 200, 4], [1, 10, 100, 2])

    assert found
    assert (found.median, found.low, found.high) == (2, 2, 2)
    assert paired_ratio([1, 2], [1, 2]) is None


_HOLDING = """
import torch
from deeplab_spec.measure.memory import forget_peak, peak_bytes

cpu = torch.device("cpu")
forget_peak(cpu)
before = peak_bytes(cpu)
held = torch.ones(2**24)
grown = peak_bytes(cpu)
del held
forget_peak(cpu)
print(grown - before, peak_bytes(cpu) - grown)
"""


def test_peak_memory_grows_with_what_is_held() -> None:
    """64 MiB more are seen, and forgotten again; in a process that has no memory left over from other work."""
    printed = subprocess.run([sys.executable, "-c", _HOLDING], capture_output=True, text=True, check=True).stdout
    grown, left = map(int, printed.split())

    assert grown >= 2**25
    assert left < 0


def test_device_is_named_and_its_clock_read_where_there_is_one() -> None:
    """Neither is ever empty or negative."""
    assert device_name(CPU)
    clock = megahertz(CPU)
    assert clock is None or clock > 0


def test_a_warm_run_is_timed_after_untimed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle GPU has lowered its clock: the first runs are not those that a busy one makes."""
    runs: list[str] = []
    monkeypatch.setattr(timing, "WARM_UP", {"cpu": 3})
    monkeypatch.setattr(timing, "timed", lambda work, _device: runs.append("timed") or work() or 1.0)

    assert timed_warm(lambda: runs.append("run"), CPU) == 1.0
    assert runs == ["run", "run", "run", "timed", "run"]


def test_a_clock_that_cannot_be_read_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML's own errors are no RuntimeError; a mode must not fail because its clock has no name."""

    class NVMLError(Exception):
        """As pynvml raises it."""

    def refuse(_device: torch.device) -> int:
        raise NVMLError("Not Supported")

    monkeypatch.setattr(torch.cuda, "clock_rate", refuse)

    assert megahertz(torch.device("cuda")) is None


class Allocator:
    """What torch.cuda says of memory: tensors held little, a graph's pool is reserved and stays so."""

    held, reserved, cached = 10, 300, 500

    def empty_cache(self) -> None:
        """Give back what nothing holds; the pool of a graph is held."""
        self.cached = 0

    def memory_reserved(self, _device: torch.device) -> int:
        """Return what the allocator has of the device."""
        return self.reserved + self.cached


@pytest.mark.parametrize(("reserved", "expected"), [(300, 300), (4, 10)])
def test_peak_memory_of_a_device_has_the_pool_of_a_graph(
    reserved: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tensor holds a graph's intermediate values while it is replayed; a cache that is unused is no need."""
    allocator = Allocator()
    allocator.reserved = reserved
    monkeypatch.setattr(torch.cuda, "empty_cache", allocator.empty_cache)
    monkeypatch.setattr(torch.cuda, "memory_reserved", allocator.memory_reserved)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: allocator.held)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _device: None)
    device = torch.device("cuda")

    forget_peak(device)

    assert peak_bytes(device) == expected
