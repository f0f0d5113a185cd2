"""``bench``: times the modes of a network on one device, each in a process of its own.

The processes run in turn, every other turn in reverse order, so that a ratio compares two runs of the same turn.
The intervals are over such pairs in one process per mode: they say how well these runs are known. Whether a
change is real across processes is decided by ``gate``.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from deeplab_spec.bench.document import BenchCaseModel, BenchDocument, ClockModel, LeftOutModel, ModeModel
from deeplab_spec.bench.plan import Plan
from deeplab_spec.bench.process import ModeProcess, ask
from deeplab_spec.bench.request import Case, Job
from deeplab_spec.errors import TargetError
from deeplab_spec.measure.statistics import CeilingsModel, paired_ratio
from deeplab_spec.precision import FLOAT32
from deeplab_spec.views.progress import Progress, silent

if TYPE_CHECKING:
    from deeplab_spec.measure.modes import Mode

Save = Callable[[BenchDocument], None]
"""Receives the document of all cases so far, after every case."""

_PREPARING: Final = 0.7
"""The share of a case's time budget in which its modes must be ready."""

_LEAST_RUNS: Final = 3
"""The least runs of each mode, in any time budget: fewer pairs have no interval."""


def bench(plan: Plan, progress: Progress = silent, save: Save = lambda _document: None) -> BenchDocument:
    """Time the modes of a plan; ``save`` receives the document of all cases so far, after every case.

    Raises:
        TargetError: If eager, which every mode is compared with, fails.
    """
    run = _Run(plan, progress, save)
    for group in plan.request.groups:
        run.group(group)
    return run.document()


class _Run:
    """A run of ``bench``: the cases so far, and the time that is left; its arguments are those of :func:`bench`."""

    def __init__(self, plan: Plan, progress: Progress, save: Save) -> None:
        self.plan = plan
        self.request = plan.request
        self.progress = progress
        self.save = save
        self.begin = monotonic()
        self.cases: list[BenchCaseModel] = []
        self.left_out: list[LeftOutModel] = []
        self.facts: dict[str, Any] = {"device_name": None, "threads": None, "versions": {}}
        self.left = {case: plan.case_seconds(case) for case in plan.request.cases}
        self.expected_end = self.begin
        self.ceilings: dict[str, CeilingsModel] = {}
        if plan.speed:
            self._highest(FLOAT32.name, plan.speed)

    def document(self) -> BenchDocument:
        """Return the document of all cases so far."""
        return BenchDocument(
            target=self.request.title,
            classes=self.request.classes,
            device=self.request.device,
            runs=self.request.runs,
            estimated_seconds=self.plan.seconds,
            seconds=monotonic() - self.begin,
            cases=tuple(self.cases),
            left_out=tuple(self.left_out),
            **self.facts,
        )

    def group(self, group: Sequence[Case]) -> None:
        """Time cases that share their processes."""
        with ExitStack() as stack:
            processes = {
                mode.name: stack.enter_context(
                    ModeProcess(Job(request=self.request, case=group[0], mode=mode.name), self.request.deadline)
                )
                for mode in self.plan.ready
            }
            for case in group:
                begin, budget = monotonic(), self._budget(case)
                self.expected_end = begin + self.left.pop(case)
                least = self.plan.least_seconds(case, first=not any(p.started for p in processes.values()))
                if budget < least:
                    reason = f"its share of the time budget is {budget:.0f} s, it takes about {least:.0f} s"
                    title = case.title if case.variant else f"{self.request.network(case)}, {case.title}"
                    self.left_out.append(LeftOutModel(title=title, reason=reason))
                    continue
                self._prepare(processes, case, begin + _PREPARING * budget)
                self._take_turns(processes, case, begin + budget)
                self.cases.append(self._case(processes, case))
                self.save(self.document())

    def _budget(self, case: Case) -> float:
        """Return the seconds that a case may take: its share of the remaining time, by its estimate."""
        if self.request.time_budget is None:
            return inf
        left = max(0.0, self.request.time_budget - (monotonic() - self.begin))
        return left * self.left[case] / sum(self.left.values())

    def _report(self, stage: str) -> None:
        """Report progress: the seconds that have passed, and the expected total."""
        end = max(self.expected_end, monotonic()) + sum(self.left.values())
        self.progress(stage, round(monotonic() - self.begin), round(end - self.begin))

    def _prepare(self, processes: Mapping[str, ModeProcess], case: Case, until: float) -> None:
        begin = monotonic()
        alive = [process for process in processes.values() if not process.ended]

        def beat(modes: str, done: int) -> None:
            passed = monotonic() - begin
            self._report(f"{case.title}: preparing {modes}, {done} of {len(alive)} ready, {passed:.0f} s")

        for process in alive:
            process.runs.clear()
        answers = ask(alive, f"prepare {case.batch}", at_once=self.request.workers, until=until, beat=beat)
        for process, answer in answers.items():
            process.facts = answer
        self._require(processes)

    def _take_turns(self, processes: Mapping[str, ModeProcess], case: Case, until: float) -> None:
        """Run every mode in turn, as often as the request says and the time budget allows."""
        runs = self.request.runs
        for turn in range(runs):
            if turn >= _LEAST_RUNS and monotonic() > until:
                break
            running = [process for process in processes.values() if process.status == "timed"]

            def beat(mode: str, _done: int, turn: int = turn) -> None:
                self._report(f"{case.title}: run {turn + 1} of {runs}, {mode}")

            for process, answer in ask(running[:: 1 if turn % 2 == 0 else -1], "run", beat=beat).items():
                if process.status == "timed":
                    process.runs.append(answer)
        self._require(processes)

    def _require(self, processes: Mapping[str, ModeProcess]) -> None:
        """Raise an error if the baseline failed."""
        baseline = next(iter(processes.values()), None)
        if baseline and baseline.status != "timed":
            raise TargetError(self.request.title, f"{baseline.job.mode} {baseline.status}: {baseline.reason}")

    def _case(self, processes: Mapping[str, ModeProcess], case: Case) -> BenchCaseModel:
        def beat(_mode: str, _done: int) -> None:
            self._report(f"{case.title}: the ceilings of the device")

        ceilings: dict[str, CeilingsModel] = {}
        baseline = next(iter(processes.values()), None)
        if baseline:
            self.facts.update({name: baseline.facts[name] for name in self.facts if name != "versions"})
            for precision in dict.fromkeys(mode.precision.name for mode in self.plan.ready):
                (answer,) = ask([baseline], f"ceilings {precision}", beat=beat).values()
                self._require(processes)
                ceilings[precision] = self._highest(precision, CeilingsModel.model_validate(answer))
        for process in processes.values():
            self.facts["versions"] = {**process.facts.get("versions", {}), **self.facts["versions"]}
        cost = self.plan.costs[case]
        modes = tuple(self._mode(mode, processes, case, ceilings) for mode in self.plan.modes)
        timed = {mode.mode: mode.median_seconds for mode in modes if mode.median_seconds is not None}
        return BenchCaseModel(
            title=case.title,
            network=self.request.network(case),
            output_stride=case.output_stride,
            size=case.size,
            batch=case.batch,
            flops=cost.flops,
            bytes=cost.moved,
            least_flops=cost.least.flops,
            least_numbers=cost.least.numbers,
            ceilings=ceilings,
            modes=modes,
            fastest=min(timed, key=timed.__getitem__) if timed else None,
        )

    def _mode(
        self, mode: "Mode", processes: Mapping[str, ModeProcess], case: Case, ceilings: Mapping[str, CeilingsModel]
    ) -> ModeModel:
        about: dict[str, Any] = {"mode": mode.name, "does": mode.does, "precision": mode.precision.name}
        process = processes.get(mode.name)
        if process is None:
            return ModeModel(**about, status="not run", reason=mode.missing(self.request.device))
        if process.status != "timed":
            return ModeModel(**about, status=process.status, reason=process.reason)
        seconds = [run["seconds"] for run in process.runs]
        least, median = self.plan.costs[case].least, statistics.median(seconds)
        moved = least.numbers * mode.precision.bytes
        clocks = [run["megahertz"] for run in process.runs if run["megahertz"] is not None]
        measured = ("peak_memory_bytes", "error", "allowed", "prepare_seconds")
        return ModeModel(
            **about,
            status="timed",
            seconds=tuple(seconds),
            median_seconds=median,
            images_per_second=case.batch / median,
            ratio=paired_ratio([run["seconds"] for run in next(iter(processes.values())).runs], seconds),
            roofline_fraction=ceilings[mode.precision.name].least_seconds(least.flops, moved) / median,
            clock=ClockModel(
                megahertz=statistics.median(clocks) if clocks else None,
                spin_seconds=statistics.median(run["spin_seconds"] for run in process.runs),
            ),
            **{name: process.facts[name] for name in measured},
        )

    def _highest(self, precision: str, measured: CeilingsModel) -> CeilingsModel:
        """Return the highest ceilings that this run has measured: other programs can only lower them."""
        before = self.ceilings.get(precision, measured)
        self.ceilings[precision] = CeilingsModel(
            flops_per_second=max(before.flops_per_second, measured.flops_per_second),
            bytes_per_second=max(before.bytes_per_second, measured.bytes_per_second),
        )
        return self.ceilings[precision]
