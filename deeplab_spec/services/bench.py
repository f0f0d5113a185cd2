"""``bench``: the modes side by side on one device, each in a process of its own.

The processes run in turn, one run each, every other turn in reverse, so that a ratio is of two runs
that were made one after the other. The intervals are over such pairs in one process per mode: they say
how well these runs are known. Whether a change is real across processes is what ``gate`` decides.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Self

from deeplab_spec.analysis.costs import Values
from deeplab_spec.analysis.protocol import SINGLE
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode as Pass
from deeplab_spec.analysis.traffic import BYTES
from deeplab_spec.errors import MissingExtraError, TargetError
from deeplab_spec.graph.network import Network
from deeplab_spec.render.bench import BenchCaseModel, BenchDocument, CeilingsModel, ClockModel, ModeModel, RatioModel
from deeplab_spec.services.bench_request import ADAPTER, BenchRequest, Case, Job, job

Progress = Callable[[str, int, int], None]

_ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that spin while they wait starve the other processes of a machine that is shared."""

_ALL: Final = "all"

_PROCESS_SECONDS: Final = 12
"""To start a process and build a full-size network in it."""

_CHECKING_RUNS: Final = 6
"""What certifying costs, in runs: one in float64 is worth four."""

_PART_OF_CEILING: Final = 0.5
"""What an ordinary mode reaches of the roofline, for the estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One mode to be timed, or the reason why it is not.

    Attributes:
        name: Its name.
        does: What it does.
        precision: What products are computed in.
        seconds: About how long it takes to prepare.
        missing: Why it cannot run here; empty if it can.
    """

    name: str
    does: str
    precision: str
    seconds: int
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be timed.

    Attributes:
        request: What was asked for.
        entries: The modes, the baseline first.
        costs: Operations and bytes of one run of each case.
    """

    request: BenchRequest
    entries: tuple[Entry, ...]
    costs: tuple[tuple[int, int], ...]

    @property
    def ready(self) -> tuple[Entry, ...]:
        """The modes that can run here."""
        return tuple(entry for entry in self.entries if not entry.missing)

    def seconds(self, found: CeilingsModel) -> float:
        """Return about how long it all takes on a device with these ceilings."""
        total = 0.0
        for flops, moved in self.costs:
            run = max(flops / found.flops_per_second, moved / found.bytes_per_second) / _PART_OF_CEILING
            total += sum(
                _PROCESS_SECONDS + entry.seconds + run * (self.request.runs + _CHECKING_RUNS) for entry in self.ready
            )
        return total

    def statement(self, found: CeilingsModel | None) -> str:
        """Say what will be timed, and about how long it takes."""
        cases, request = self.request.cases, self.request
        each = f"{len(self.ready)} modes, {request.runs} runs each"
        what = cases[0].title if len(cases) == 1 else f"{len(cases)} cases ({cases[0].title} to {cases[-1].title})"
        time = f"about {minutes(self.seconds(found))}" if found else "nothing can run here"
        return f"{request.title} on {request.device}, {what}: {each}: {time}"


def minutes(seconds: float) -> str:
    """Word a time.

    >>> minutes(50), minutes(400), minutes(20000)
    ('1 minute', '7 minutes', '5.6 hours')
    """
    if seconds > 2 * 3600:
        return f"{seconds / 3600:.1f} hours"
    count = max(1, round(seconds / 60))
    return f"{count} minute{'s' if count > 1 else ''}"


def plan(request: BenchRequest) -> Plan:
    """Decide what to time.

    Raises:
        MissingExtraError: If torch is not installed, or onnxruntime is asked for and is not.
        SpecError: If a mode is unknown.
        TargetError: If a target cannot be built or read.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("bench", "torch")
    return Plan(
        request=request,
        entries=_entries(request),
        costs=tuple(_case_cost(request, case) for case in request.cases),
    )


def _entries(request: BenchRequest) -> tuple[Entry, ...]:
    from deeplab_spec.measure import onnx_runtime
    from deeplab_spec.measure.modes import DEFAULTS, EAGER, GPU_EXAMPLES, modes_for

    named = tuple(name for name in request.modes if name != onnx_runtime.NAME)
    if onnx_runtime.NAME in request.modes:
        onnx_runtime.require_onnx(f"bench --mode {onnx_runtime.NAME}")
    if not request.modes:
        named = DEFAULTS[request.device] + (GPU_EXAMPLES if request.device == "cpu" else ())
    entries = [
        Entry(
            name=mode.name,
            does=mode.does,
            precision=mode.precision.value,
            seconds=mode.seconds,
            missing=mode.missing(request.device),
        )
        for mode in modes_for(request.device, (EAGER, *named))
    ]
    if not request.modes or onnx_runtime.NAME in request.modes:
        entries.append(
            Entry(
                name=onnx_runtime.NAME,
                does=onnx_runtime.DOES,
                precision="float32",
                seconds=onnx_runtime.SECONDS,
                missing=onnx_runtime.missing(request.device),
            )
        )
    return tuple(entries)


def _case_cost(request: BenchRequest, case: Case) -> tuple[int, int]:
    """Return operations and bytes of a batch; parameters are read once for all of it."""
    from deeplab_spec.measure.profile_costs import batch_costs

    network, values = _graph(request, case)
    total = batch_costs(network, values, Pass.FORWARD, case.batch, {node.path: _ALL for node in network})[_ALL]
    return total.flops, total.moved


def _graph(request: BenchRequest, case: Case) -> tuple[Network, Values]:
    if request.published:
        graph = request.subject(case).network()
        return graph, shapes(graph, case.size)
    from deeplab_spec.capture.target import Target
    from deeplab_spec.services.captured import read

    target = Target(name=str(request.target), arguments=request.arguments)
    captured = read(target, case.output_stride, request.classes, case.size, SINGLE)
    return captured.network, captured.shapes


def measured_ceilings(plan: Plan) -> CeilingsModel | None:
    """Measure the device's float32 ceilings in a process of its own; None where nothing can run.

    Raises:
        TargetError: If the process fails.
    """
    if not plan.ready:
        return None
    code = (
        "import dataclasses, json, sys, torch; from deeplab_spec.measure.roofline import ceilings; "
        "print(json.dumps(dataclasses.asdict(ceilings(torch.device(sys.argv[1])))))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, plan.request.device]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise TargetError("bench", f"the ceilings of {plan.request.device} cannot be measured")
    return CeilingsModel.model_validate_json(result.stdout)


def bench(plan: Plan, progress: Progress = lambda _stage, _done, _total: None) -> BenchDocument:
    """Time everything that was planned.

    Args:
        plan: What to time.
        progress: Told the stage, how many are done, and how many there are.

    Raises:
        TargetError: If eager, which all is held against, cannot run although it should.
    """
    facts: dict[str, Any] = {"device_name": None, "threads": None, "versions": {}}
    cases = tuple(
        _case(plan, case, cost, progress, facts) for case, cost in zip(plan.request.cases, plan.costs, strict=True)
    )
    request = plan.request
    return BenchDocument(
        target=request.title, classes=request.classes, device=request.device, runs=request.runs, cases=cases, **facts
    )


def _case(plan: Plan, case: Case, cost: tuple[int, int], progress: Progress, facts: dict[str, Any]) -> BenchCaseModel:
    request, ready = plan.request, plan.ready
    with ExitStack() as stack:
        processes: dict[str, _Process] = {}
        for number, entry in enumerate(ready):
            progress(f"{case.title}: preparing {entry.name}", number, len(ready) + request.runs)
            processes[entry.name] = stack.enter_context(_Process(job(request, case, entry.name)))
        baseline = next(iter(processes.values()), None)
        _require(baseline, request.title)
        for turn in range(request.runs):
            progress(f"{case.title}: run {turn + 1} of {request.runs}", len(ready) + turn, len(ready) + request.runs)
            for process in list(processes.values())[:: 1 if turn % 2 == 0 else -1]:
                process.run()
        _require(baseline, request.title)
        found: dict[str, CeilingsModel] = {}
        if baseline:
            facts.update({name: baseline.facts[name] for name in facts})
            for precision in dict.fromkeys(entry.precision for entry in ready):
                found[precision] = CeilingsModel.model_validate(baseline.ask(precision))
        for process in processes.values():
            facts["versions"] = {**process.facts.get("versions", {}), **facts["versions"]}
    modes = tuple(_mode(entry, processes, case, cost, found) for entry in plan.entries)
    timed = {mode.mode: mode.median_seconds for mode in modes if mode.median_seconds is not None}
    return BenchCaseModel(
        title=case.title,
        output_stride=case.output_stride,
        size=case.size,
        batch=case.batch,
        flops=cost[0],
        bytes=cost[1],
        ceilings=found,
        modes=modes,
        fastest=min(timed, key=timed.__getitem__) if timed else None,
    )


def _require(baseline: "_Process | None", title: str) -> None:
    """Refuse to go on without what all is held against."""
    if baseline and baseline.status != "timed":
        raise TargetError(title, f"{baseline.job.mode} {baseline.status}: {baseline.reason}")


def _mode(
    entry: Entry,
    processes: Mapping[str, "_Process"],
    case: Case,
    cost: tuple[int, int],
    found: Mapping[str, CeilingsModel],
) -> ModeModel:
    about: dict[str, Any] = {"mode": entry.name, "does": entry.does, "precision": entry.precision}
    if entry.missing:
        return ModeModel(**about, status="not run", reason=entry.missing)
    process = processes[entry.name]
    if process.status != "timed":
        return ModeModel(**about, status=process.status, reason=process.reason)
    from deeplab_spec.measure.modes import Precision
    from deeplab_spec.measure.roofline import Ceilings, number_bytes
    from deeplab_spec.measure.timing import paired_ratio

    seconds = [run["seconds"] for run in process.runs]
    median = statistics.median(seconds)
    ratio = paired_ratio([run["seconds"] for run in next(iter(processes.values())).runs], seconds)
    top = Ceilings(**found[entry.precision].model_dump())
    moved = cost[1] * number_bytes(Precision(entry.precision)) / BYTES
    clocks = [run["megahertz"] for run in process.runs if run["megahertz"] is not None]
    return ModeModel(
        **about,
        status="timed",
        seconds=tuple(seconds),
        median_seconds=median,
        images_per_second=case.batch / median,
        ratio=RatioModel(median=ratio.median, low=ratio.low, high=ratio.high, coverage=ratio.coverage)
        if ratio
        else None,
        roofline_fraction=top.least_seconds(cost[0], moved) / median,
        peak_memory_bytes=process.facts["peak_memory_bytes"],
        error=process.facts["agreement"]["error"],
        allowed=process.facts["agreement"]["allowed"],
        prepare_seconds=process.facts["prepare_seconds"],
        clock=ClockModel(
            megahertz=statistics.median(clocks) if clocks else None,
            spin_seconds=statistics.median(run["spin_seconds"] for run in process.runs),
        ),
    )


class _Process:
    """A process with one mode in it: prepared when it is entered, then told when to run."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.status: Any = "timed"
        self.reason = ""
        self.facts: dict[str, Any] = {}
        self.runs: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "-W", "ignore", "-m", "deeplab_spec.services.bench_worker"]
        environment = {**_ENVIRONMENT, **os.environ}
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.facts = self.ask(ADAPTER.dump_json(self.job).decode())
        return self

    def __exit__(self, *_: object) -> None:
        self.child.__exit__(None, None, None)  # its commands end, and so does it

    def run(self) -> None:
        """Run once, unless it has failed before."""
        if self.status == "timed":
            answer = self.ask("run")
            if self.status == "timed":
                self.runs.append(answer)

    def ask(self, command: str) -> dict[str, Any]:
        """Give a command, and return the answer."""
        try:
            if self.child.stdin and self.child.stdout:
                self.child.stdin.write(f"{command}\n")
                self.child.stdin.flush()
                line = self.child.stdout.readline()
            answer: dict[str, Any] = json.loads(line)
        except (BrokenPipeError, json.JSONDecodeError):
            answer = {"event": "failed", "reason": f"the process ended with exit status {self.child.wait()}"}
        event = answer.pop("event")
        if event in {"refused", "failed"}:
            self.status, self.reason = event, answer["reason"]
        return answer
