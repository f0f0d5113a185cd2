"""The plan of ``bench``: the modes to time, the work of every case, and an estimate of the duration.

The least work of a network is the work that no implementation can avoid. However operators are fused, every
convolution computes its products, the images and the kernels are read once, and the results are written once. A
library may compute the products of a convolution in fewer multiplications (Winograd's algorithm): the operations
counted here are those of the direct sum.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Final

from deeplab_spec.analysis.costs import Values
from deeplab_spec.analysis.protocol import SINGLE
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode as Pass
from deeplab_spec.analysis.terms import conv_weights
from deeplab_spec.bench.document import SpeedModel
from deeplab_spec.bench.process import ModeProcess, ask
from deeplab_spec.bench.request import DEADLINE, BenchRequest, Case, Job
from deeplab_spec.errors import MissingExtraError, TargetError, require_torch
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Conv2d, Input, Output
from deeplab_spec.measure.parts import EAGER

if TYPE_CHECKING:
    from deeplab_spec.measure.modes import Mode

_ALL: Final = "all"

_PROCESS_SECONDS: Final = 6.0
"""Time to start a process and build a full-size network in it, on a machine of the nominal speed."""

_NOMINAL_SPIN: Final = 0.0025
"""Seconds for the loop of a fixed length on such a machine."""

_CHECKING_RUNS: Final = 12
"""Time to certify a mode, in runs of eager: float64, the statistics, the module itself, and the mode."""

_RUNS_A_TURN: Final = 2
"""An untimed run, and a timed one."""

_PART_OF_CEILING: Final = {"cpu": 0.35, "cuda": 0.3}
"""Fraction of the roofline that an ordinary mode reaches."""

_SIDE_BY_SIDE: Final = 0.6
"""Gain in speed of preparation from each further mode that is prepared at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastWork:
    """The least work of one run.

    Attributes:
        flops: Operations of convolutions; a multiplication and an addition are two.
        numbers: Numbers that are read or written: images, kernels and results.
    """

    flops: int
    numbers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseCost:
    """The work of one run of a case.

    Attributes:
        flops: Operations, with every operator run alone.
        moved: Bytes that are read and written in float32, likewise.
        least: The work that no implementation can avoid.
    """

    flops: int
    moved: int
    least: LeastWork


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a run: its modes, the baseline first, and the work of one run by case."""

    request: BenchRequest
    modes: "tuple[Mode, ...]"
    costs: dict[Case, CaseCost]

    @cached_property
    def ready(self) -> "tuple[Mode, ...]":
        """The modes that can run here."""
        return tuple(mode for mode in self.modes if not mode.missing(self.request.device))

    @cached_property
    def speed(self) -> SpeedModel | None:
        """The speed of the device and of the processor; None where nothing can run."""
        return measured_speed(self.request) if self.ready else None

    @cached_property
    def seconds(self) -> float:
        """About how long everything takes, at most the time budget."""
        total = sum(map(self.case_seconds, self.request.cases))
        return min(total, self.request.time_budget) if self.request.time_budget else total

    def case_seconds(self, case: Case) -> float:
        """Return about how long a case takes."""
        first = any(group[0] == case for group in self.request.groups)
        each = [self._preparation(case, mode, first=first) for mode in self.ready]
        side_by_side = 1 + _SIDE_BY_SIDE * (min(self.request.workers, len(each)) - 1)
        preparing = max([*each, sum(each) / side_by_side], default=0.0)
        return preparing + self._run(case) * _RUNS_A_TURN * self.request.runs * len(each)

    def least_seconds(self, case: Case, *, first: bool) -> float:
        """Return about how long it takes to prepare only the baseline of a case; ``first`` if a process must start."""
        return self._preparation(case, self.ready[0], first=first) if self.ready else 0.0

    def _preparation(self, case: Case, mode: "Mode", *, first: bool) -> float:
        slowness = self.speed.spin_seconds / _NOMINAL_SPIN if self.speed else 1.0
        fixed = mode.seconds + (_PROCESS_SECONDS if first else 0.0)
        return slowness * fixed + _CHECKING_RUNS * self._run(case)

    def _run(self, case: Case) -> float:
        """Return about how long one run takes."""
        if self.speed is None:
            return 0.0
        cost, part = self.costs[case], _PART_OF_CEILING[self.request.device]
        return max(cost.flops / self.speed.flops_per_second, cost.moved / self.speed.bytes_per_second) / part

    def statement(self) -> str:
        """Return the plan in one line: what will be timed, and about how long it takes."""
        cases, request = self.request.cases, self.request
        each = f"{len(self.ready)} modes, {request.runs} runs each"
        what = cases[0].title if len(cases) == 1 else f"{len(cases)} cases ({cases[0].title} to {cases[-1].title})"
        time = f"about {minutes(self.seconds)}" if self.ready else "nothing can run here"
        return f"{request.title} on {request.device}, {what}: {each}: {time}"


def minutes(seconds: float) -> str:
    """Return a duration in words.

    >>> minutes(50), minutes(400), minutes(20000)
    ('1 minute', '7 minutes', '5.6 hours')
    """
    if seconds > 2 * 3600:
        return f"{seconds / 3600:.1f} hours"
    count = max(1, round(seconds / 60))
    return f"{count} minute{'s' if count > 1 else ''}"


def plan(request: BenchRequest) -> Plan:
    """Make the plan for a request.

    Raises:
        MissingExtraError: If torch is not installed, or a requested mode needs an extra.
        SpecError: If a mode is unknown.
        TargetError: If a target cannot be built or read.
    """
    require_torch("bench")
    return Plan(
        request=request, modes=_modes(request), costs={case: _case_cost(request, case) for case in request.cases}
    )


def _modes(request: BenchRequest) -> "tuple[Mode, ...]":
    from deeplab_spec.measure.modes import DEFAULTS, GPU_EXAMPLES, modes_for

    names = request.modes or DEFAULTS[request.device] + (GPU_EXAMPLES if request.device == "cpu" else ())
    modes = modes_for(request.device, (EAGER, *names))
    for part in (part for mode in modes for part in mode.parts if request.modes and part.missing):
        raise MissingExtraError(f"bench --mode {part.name}", part.extra)
    return modes


def _case_cost(request: BenchRequest, case: Case) -> CaseCost:
    """Return the work for a batch; parameters are read once for all of it."""
    from deeplab_spec.analysis.costs import batch_costs

    network, values = _graph(request, case)
    total = batch_costs(network, values, Pass.FORWARD, case.batch, {node.path: _ALL for node in network})[_ALL]
    return CaseCost(flops=total.flops, moved=total.moved, least=least_work(network, values, case.batch))


def _graph(request: BenchRequest, case: Case) -> tuple[Network, Values]:
    if request.published:
        graph = request.subject(case).network()
        return graph, shapes(graph, case.size)
    from deeplab_spec.capture.target import Target
    from deeplab_spec.count.target_counts import read

    target = Target(name=str(request.target), arguments=request.arguments)
    captured = read(target, case.output_stride, request.classes, case.size, SINGLE)
    return captured.network, captured.shapes


def least_work(nodes: Iterable[Node], shapes: Values, images: int) -> LeastWork:
    """Return the least work for a batch.

    Args:
        nodes: The nodes of a network, or of a part of it; images and results count only where they are among them.
        shapes: Shape of every value for one image, by path.
        images: Images in the batch.
    """
    products = kernels = ends = 0
    for node in nodes:
        if isinstance(node.op, Conv2d):
            kernels += conv_weights(node.op)
            products += conv_weights(node.op) * prod(shapes[node.path][1:])
        elif isinstance(node.op, Input | Output):
            ends += prod(shapes[node.path])
    return LeastWork(flops=2 * images * products, numbers=images * ends + kernels)


def measured_speed(request: BenchRequest) -> SpeedModel:
    """Measure the device's ceilings in float32 and the processor's speed, in a process of its own.

    Raises:
        TargetError: If the process fails.
    """
    with ModeProcess(Job(request=request, case=request.cases[0], mode=EAGER), DEADLINE) as process:
        (answer,) = ask([process], "speed").values()
    if process.status != "timed":
        raise TargetError("bench", f"the ceilings of {request.device} cannot be measured: {process.reason}")
    return SpeedModel.model_validate(answer)
