"""The parts of the measured process, in this process: clocks and timers, with stand-ins for CUDA and NVML."""

import sys
from collections.abc import Iterator
from inspect import signature
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from deeplab_spec.gate.cases import CPU_FORWARD, changed  # noqa: E402
from deeplab_spec.gate.side import process as side_process  # noqa: E402
from deeplab_spec.gate.side import timers as side_timers  # noqa: E402
from deeplab_spec.gate.side.timers import CpuTimer, GpuClock, GpuTimer, Moment, between, now  # noqa: E402
from deeplab_spec.gate.sides import Side, job_of  # noqa: E402
from deeplab_spec.reference.network import build as reference_build  # noqa: E402


class Gpu:
    """A device on which a run takes 10 ms; ``spins`` are factors by which the next spins take longer."""

    def __init__(self) -> None:
        self.at = 0.0
        self.host = 0.0
        self.spins: list[float] = []
        self.done: list[str] = []

    def run(self) -> None:
        """Run the network."""
        self.done.append("run")
        self.at += 0.010
        self.host += 0.010

    def sleep(self, cycles: int) -> None:
        """Spin: two million cycles take a millisecond."""
        self.done.append("spin")
        self.at += cycles / 2e9 * (self.spins.pop(0) if self.spins else 1.0)

    def event(self, **_: object) -> SimpleNamespace:
        """Return an event of the device."""
        made = SimpleNamespace(at=0.0)
        made.record = lambda: setattr(made, "at", self.at)
        made.elapsed_time = lambda end: 1000 * (end.at - made.at)
        return made


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Stand in for CUDA, without NVML."""
    fake = Gpu()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "Event", fake.event)
    monkeypatch.setattr(torch.cuda, "_sleep", fake.sleep)
    monkeypatch.setattr(torch.cuda, "clock_rate", lambda: fake.done.append("clock") or 1980)
    monkeypatch.setattr(side_timers, "perf_counter", lambda: fake.host)
    return fake


def test_a_planted_wait_on_a_gpu_uses_several_witnesses_of_the_clock(gpu: Gpu) -> None:
    """One disturbed spin must not make the wait ten times too short."""
    gpu.spins = [10.0]
    timer = GpuTimer(gpu.run, 0.1)

    assert timer.cycles == round(0.1 * 0.010 * 2e9)
    assert timer.seconds() == pytest.approx(0.011)


def test_a_gpu_runs_before_it_is_timed_and_its_clock_is_read_afterwards(gpu: Gpu) -> None:
    """An idle GPU lowers its clock, so it runs untimed for 20 ms first."""
    timer = GpuTimer(gpu.run, 0.0)
    gpu.done.clear()

    assert timer.sample() == {
        "witness": pytest.approx(0.001),
        "seconds": pytest.approx(0.010),
        "mhz": 1980,
        "slowed_by": "",
    }
    assert gpu.done == ["run", "run", "spin", "run", "clock"]


class NvmlError(Exception):
    """Like the errors of pynvml: it derives from ``Exception`` only."""


@pytest.mark.parametrize("error", [NvmlError("driver"), ModuleNotFoundError("pynvml"), RuntimeError("x")])
def test_a_clock_that_cannot_be_read_is_unknown(error: Exception, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """No error of NVML stops the gate."""

    def refuse() -> int:
        raise error

    monkeypatch.setattr(torch.cuda, "clock_rate", refuse)
    sample = GpuTimer(gpu.run, 0.0).sample()

    assert (sample["mhz"], sample["slowed_by"]) == (None, "")


def nvml(reasons: int | Exception) -> ModuleType:
    """Return a stand-in for pynvml with these reasons."""
    module: Any = ModuleType("pynvml")

    def read(handle: str) -> int:
        assert handle == "handle of GPU-1234"
        if isinstance(reasons, Exception):
            raise reasons
        return reasons

    module.nvmlInit = lambda: None
    module.nvmlDeviceGetHandleByUUID = lambda name: f"handle of {name}"
    module.nvmlDeviceGetCurrentClocksThrottleReasons = read
    return module


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (0x00, ""),
        (0x05, ""),
        (0x20, "temperature"),
        (0x60, "temperature"),
        (0x88, "hardware slowdown, power brake"),
        (NvmlError("not supported"), ""),
    ],
    ids=["none", "idle and power limit", "software", "both", "hardware", "unknown"],
)
def test_a_gpu_that_is_slowed_to_protect_it_has_a_reason(
    reasons: int | Exception, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heavy work always reaches the power limit, so that is not a reason. An error of NVML gives none."""
    monkeypatch.setitem(sys.modules, "pynvml", nvml(reasons))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: SimpleNamespace(uuid="1234"))

    assert GpuClock().slowed_by() == expected


@pytest.fixture
def products() -> Iterator[None]:
    """Restore how float32 is multiplied."""
    places = (torch.backends, torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [place.fp32_precision for place in places]
    yield
    for place, value in zip(places, before, strict=True):
        place.fp32_precision = value


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("mode", ["eager", "tf32"])
def test_the_mode_decides_how_float32_is_multiplied_whatever_the_side_has_set(mode: str) -> None:
    """TF32 that a side has switched on is off without the mode ``tf32``; the older switches can still be read."""
    torch.backends.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    case = changed(CPU_FORWARD, {"mode": mode, "size": (8, 8)})
    job = job_of(case, Side(name="m:build", target="m:build", paths=()))
    side_process.prepare(torch.nn.Conv2d(3, 4, 3), job)

    expected = "tf32" if mode == "tf32" else "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == expected
    assert torch.backends.cuda.matmul.fp32_precision == expected
    assert torch.backends.cudnn.allow_tf32 is (mode == "tf32")


def at(wall: float, waited: float = 0.0, own: float = 0.0, others: float = 0.0) -> Moment:
    """Return a moment."""
    return Moment(wall=wall, waited=waited, own=own, others=others)


@pytest.mark.parametrize(
    ("end", "seconds"),
    [
        (at(1.0, own=1.0), 1.0),
        (at(1.0, own=0.2), 1.0),
        (at(1.0, waited=0.4, own=0.6), 0.6),
        (at(1.0, waited=0.4, own=0.6, others=0.4), 1.0),
        (at(1.0, own=0.5, others=3.0), 1.0),
        (at(1.0, waited=1.2, own=0.3), 0.3),
    ],
    ids=["runs", "sleeps", "waits for another program", "waits for its own threads", "waits for results", "races"],
)
def test_the_time_leaves_out_only_what_other_processes_had_the_core_for(end: Moment, seconds: float) -> None:
    """Sleep counts, and so does waiting for threads of the same process."""
    assert between(at(0.0), end) == pytest.approx(seconds)


def test_the_clocks_of_a_running_thread_go_forward() -> None:
    """The wall clock, the CPU time and the waiting time never decrease."""
    first = now()
    while (second := now()).wall == first.wall:
        pass

    assert second.wall > first.wall
    assert second.own >= first.own
    assert second.waited >= first.waited


def test_a_moment_in_which_another_process_had_the_core_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise that time would be in one clock and not in the others."""
    readings = iter([1.0, 1.5, 1.5, 1.5])
    monkeypatch.setattr(side_timers, "_waited", lambda: next(readings))

    assert now().waited == 1.5
    assert next(readings, None) is None


def test_without_kernel_statistics_there_is_no_waiting_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only Linux counts it."""
    monkeypatch.setattr(side_timers, "_STATISTICS", None)

    assert now().waited == 0.0


def test_a_planted_wait_on_a_processor_is_a_share_of_the_runs_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with the first reading of the clock at or after its end."""
    wall = iter([0.0, 1.0, 1.05, 1.1, 1.2])
    monkeypatch.setattr(side_timers, "now", lambda: at(next(wall)))

    assert CpuTimer(lambda: None, 0.1).seconds() == pytest.approx(1.1)


def test_the_description_of_a_build_has_every_argument_that_was_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder without an argument ``variant`` gets none."""
    module: Any = ModuleType("own_network")
    module.build = lambda size=1, output_stride=8: torch.nn.Conv2d(3, size * output_stride, 1)
    module.whole = lambda **arguments: torch.nn.Identity(arguments)
    module.whole.__signature__ = signature(reference_build)
    module.net = torch.nn.Identity()
    monkeypatch.setitem(sys.modules, "own_network", module)

    def built(target: str, **changes: object) -> str:
        side = Side(name="x", target=target, paths=(), arguments={"size": "2"} if target.endswith("build") else {})
        return str(side_process.build(job_of(changed(CPU_FORWARD, changes), side))[2])

    assert built("own_network:build") == "own_network:build(size=2, output_stride=16)"
    assert built("own_network:net") == "own_network:net, a module instance"
    assert built("own_network:whole", choices={"width": 0.5}).endswith("num_classes=21, choices={'width': 0.5})")
    with pytest.raises(TypeError, match="own_network:build takes no argument 'variant', which an option sets"):
        built("own_network:build", variant="tf-release")
    with pytest.raises(TypeError, match="is a module instance: no option can set its output_stride"):
        built("own_network:net", output_stride=8)


def test_free_memory_decides_how_many_more_processes_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the memory of the GPU counts, too."""
    free = side_process.room(on_gpu=False)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10_000, 100_000))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 4_000)

    assert free > 0
    assert side_process.room(on_gpu=True) == min(free, 2)
    monkeypatch.setattr(side_process, "_available_kilobytes", lambda: 0)
    assert side_process.room(on_gpu=True) == 0


def test_the_script_builds_the_network_of_its_job_and_samples_on_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads its parts by their paths, because the package on the path may be another version."""
    module: Any = ModuleType("own_network")
    module.build = lambda: torch.nn.Conv2d(3, 2, 1)
    monkeypatch.setitem(sys.modules, "own_network", module)
    monkeypatch.setattr(torch, "set_flush_denormal", lambda _: True)
    job = job_of(changed(CPU_FORWARD, {"size": (8, 8)}), Side(name="x", target="own_network:build", paths=()))
    events: list[dict[str, Any]] = []
    side_process.serve(job, iter(["sample\n", "sample\n"]), events.append)

    assert [event["event"] for event in events] == ["ready", "sample", "sample"]
    assert (events[0]["built"], events[0]["device"]) == ("own_network:build()", "cpu")
    assert min(events[1]["seconds"], events[1]["witness"]) > 0
