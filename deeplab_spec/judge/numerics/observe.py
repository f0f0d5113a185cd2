"""Observes a candidate's values: step by step, and end to end, against the oracle in float64.

There are two draws of weights. With the first, rounding is not amplified over the depth, and the whole candidate runs.
With the second, every operation gets values of every kind, and each step of the candidate runs on the oracle's own
values, so that no fault hides behind the error of another; the judge does this while the candidate runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import channel_orders
from deeplab_spec.capture.capture import Candidate
from deeplab_spec.errors import CaptureError
from deeplab_spec.execute.interpreter import Values
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.execute.weights import Draw, challenge, folded_values, folded_weights
from deeplab_spec.graph.ops import Activation
from deeplab_spec.judge.certificate import SmallestInput
from deeplab_spec.judge.evidence import PlantedFault, UnmatchedParameter
from deeplab_spec.judge.finding import Deviation
from deeplab_spec.judge.interface.observe import Oracle, Tick, images
from deeplab_spec.judge.load_weights import places, places_in_order
from deeplab_spec.judge.numerics.draws import Draws
from deeplab_spec.judge.numerics.end_to_end import (
    Conditioned,
    begin_float32,
    begin_float64,
    compare_float32,
    compare_float64,
)
from deeplab_spec.judge.numerics.minimize import minimize
from deeplab_spec.judge.numerics.planted import faulty_ends, of_parameters, of_steps
from deeplab_spec.judge.numerics.steps import Loaded, Steps
from deeplab_spec.judge.outputs import executed
from deeplab_spec.judge.part import CAPTURE_LIMIT, PartCandidate
from deeplab_spec.judge.plan import Plan
from deeplab_spec.judge.precision.observe import collected, compare_regions, compare_whole_runs
from deeplab_spec.judge.precision.run import OnDevice
from deeplab_spec.judge.structure.observe import Reading, unread
from deeplab_spec.precision import RATIO_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was observed of a candidate's values.

    Attributes:
        parameters: The number of matched parameters and buffers.
        unmatched: Unmatched parameters.
        steps: Local comparisons in float64.
        first: The first step that differs.
        smallest: The smallest input on which it differs.
        end_to_end: End-to-end comparisons in float64.
        end_to_end_float32: End-to-end comparisons in float32.
        float32_error: Relative error of the specification in float32; None if it was not run.
        covered: Activations that got values of every kind.
        operations: All activations.
        lower: Comparisons in lower precisions, by clause.
        weights: The weights that the candidate has at the end; they do not amplify rounding.
        planted_faults: The planted faults.
    """

    parameters: int
    unmatched: tuple[UnmatchedParameter, ...]
    steps: tuple[Deviation, ...]
    first: Deviation | None
    smallest: SmallestInput | None
    end_to_end: tuple[Deviation, ...]
    end_to_end_float32: tuple[Deviation, ...]
    float32_error: float | None
    covered: int
    operations: int
    lower: Mapping[str, tuple[Deviation, ...]]
    weights: Mapping[str, Tensor]
    planted_faults: tuple[PlantedFault, ...]

    @property
    def float64_error(self) -> float | None:
        """Largest relative error end to end in float64; None if it was not run."""
        return max((end.error for end in self.end_to_end if end.error is not None), default=None)

    @property
    def float32_ratio(self) -> float | None:
        """Largest error in float32 over that of the specification; None if it was not run."""
        ratios = (RATIO_LIMIT * end.error / end.allowed for end in self.end_to_end_float32 if end.error is not None)
        return max(ratios, default=None)


def prepare(module: Candidate, reading: Reading) -> Loaded:
    """Convert a candidate to float64, and match its parameters."""
    module.double()
    orders = channel_orders(reading.alignment, reading.capture.network)
    found, unmatched = places(reading.expected, reading.alignment.partner, reading.capture, module.tensors, orders)
    return Loaded(module=module, reading=reading, places=found, unmatched=unmatched)


def prepare_without_graph(module: Candidate, plan: Plan) -> Loaded | None:
    """Convert a candidate whose graph cannot be read to float64, and match its parameters by their order.

    Returns:
        None if its parameters are others, or it accepts no size that shows every rate.
    """
    found = places_in_order(plan.network, module.tensors)
    if not found:
        return None
    try:
        reading = unread(module, plan)
    except CaptureError:
        return None
    module.double()
    return Loaded(module=module, reading=reading, places=found, unmatched=())


def observe(
    loaded: Loaded,
    plan: Plan,
    dtypes: Sequence[str],
    tick: Tick,
    draws: Draws,
    in_float64: Callable[[Candidate, Oracle | None], None] | None = None,
    *,
    graph: bool = True,
) -> Observed:
    """Compare a candidate's values with the oracle's.

    Args:
        loaded: The candidate.
        plan: The expected network, and the sizes.
        dtypes: The precisions.
        tick: Called with the name of the next stage.
        draws: Draws the weights.
        in_float64: Called with the candidate while it has the weights of whole runs in float64, and with the oracle
            that has them too; None if some are unmatched.
        graph: Whether its graph is known; if not, only whole runs are compared.

    Raises:
        CaptureError: If the captured graph does not compute what the candidate computes.
    """
    inputs = draws.inputs(loaded.reading.image)
    precisions = (
        []
        if loaded.unmatched or not graph
        else [OnDevice(precision=each, device=torch.device(plan.request.device)) for each in plan.request.lower]
    )
    planted = [] if loaded.unmatched or not graph else list(of_parameters(loaded))
    conditioned = _conditioned(loaded, plan, inputs, draws, tick)
    tick("calling it end to end, while the judge goes on")
    whole_run = begin_float64(loaded, conditioned) if "float64" in dtypes else None
    if in_float64:
        in_float64(loaded.module, None if loaded.unmatched else Oracle(loaded.expected, conditioned.weights))
    whole_run32 = begin_float32(loaded, conditioned) if "float32" in dtypes else None
    local = _Local()
    if graph and ("float64" in dtypes or precisions):
        local = _locally(loaded, plan, draws, precisions, tick, steps="float64" in dtypes)
        loaded.load(conditioned.weights)
    outputs: tuple[Deviation, ...] = ()
    outputs32: tuple[Deviation, ...] = ()
    error32 = None
    if whole_run:
        tick("comparing end to end in float64")
        answer, outputs, planted_faults = compare_float64(loaded, conditioned, whole_run, local.first)
        planted += planted_faults
        if isinstance(loaded.module, PartCandidate):
            tick("checking the graph of the whole network by running it")
            loaded.module.check()
        elif graph and not _same(loaded, local.steps, outputs):
            tick("checking the captured graph by running it")
            _check_capture(loaded, inputs, answer.results, answer.error)
    if whole_run32:
        tick("comparing end to end in float32")
        outputs32, error32, planted_faults = compare_float32(loaded, conditioned, whole_run32, local.first)
        planted += planted_faults
    if precisions:
        tick("comparing end to end in lower precisions")
        run_lower = compare_whole_runs(
            loaded, conditioned.weights, inputs, conditioned.oracle, conditioned.taps, precisions
        )
        local.lower += run_lower
    lower, planted_faults = collected(local.lower)
    coverage = [step for step in local.steps if isinstance(loaded.expected[step.path].op, Activation)]
    return Observed(
        parameters=len(loaded.places),
        unmatched=loaded.unmatched,
        steps=local.steps,
        first=local.first,
        smallest=local.smallest,
        end_to_end=outputs,
        end_to_end_float32=outputs32,
        float32_error=error32,
        covered=sum(step.covered for step in coverage),
        operations=len(coverage),
        lower=lower,
        weights=conditioned.weights,
        planted_faults=(*planted, *local.planted_faults, *planted_faults),
    )


def load_drawn(loaded: Loaded, plan: Plan) -> Mapping[str, Tensor]:
    """Draw weights that do not amplify rounding, for calls of any size, and load them into a candidate."""
    inputs = images(plan, plan.small[0], plan.batch, torch.float64, plan.request.seed)
    named = {node.path: value for node, value in zip(loaded.expected.inputs, inputs, strict=True)}
    drawn, values = challenge(plan.network, named, Draw.CONDITIONING, plan.request.seed + 1, keep=())
    weights, _ = _as_compared(loaded, plan, drawn, values)
    loaded.load(weights)
    return weights


@dataclass(slots=True, kw_only=True)
class _Local:
    """What was observed on the oracle's own values."""

    steps: tuple[Deviation, ...] = ()
    first: Deviation | None = None
    smallest: SmallestInput | None = None
    planted_faults: list[PlantedFault] = field(default_factory=list)
    lower: list[tuple[str, Deviation | PlantedFault]] = field(default_factory=list)


def _locally(
    loaded: Loaded,
    plan: Plan,
    draws: Draws,
    precisions: Sequence[OnDevice],
    tick: Tick,
    *,
    steps: bool,
) -> _Local:
    """Compare step by step in float64, and block by block in lower precisions."""
    tick("drawing weights that show a fault of every step")
    drawn, oracle = draws.steps(loaded.reading.image)
    weights, oracle = _as_compared(loaded, plan, drawn, oracle)
    loaded.load(weights)
    found = _Local()
    if precisions:
        tick("comparing block by block in lower precisions")
        found.lower += compare_regions(loaded, weights, oracle, precisions)
    if steps:
        tick("comparing step by step")
        only_size = bool(plan.limits.sides)
        comparing = Steps(loaded, oracle, only_size=only_size)
        found.steps = comparing.compare()
        found.first = _first(found.steps)
        found.planted_faults += of_steps(loaded, weights, oracle, only_size=only_size)
        if found.first:
            tick("finding the smallest input that shows it")
            found.smallest = minimize(comparing, plan, weights, found.first.path, loaded.reading.image)
    return found


def _conditioned(loaded: Loaded, plan: Plan, inputs: Sequence[Tensor], draws: Draws, tick: Tick) -> Conditioned:
    """Draw the weights of whole runs, and load them into the candidate."""
    tick("drawing weights that do not amplify rounding")
    faulty = () if loaded.unmatched else faulty_ends(loaded.expected)
    drawn, values = draws.whole_runs(loaded.reading.image)
    weights, oracle = _as_compared(loaded, plan, drawn, values)
    loaded.load(weights)
    return Conditioned(plan=plan, inputs=inputs, weights=weights, oracle=oracle, faulty=faulty)


def _as_compared(
    loaded: Loaded, plan: Plan, weights: Mapping[str, Tensor], values: Values
) -> tuple[Mapping[str, Tensor], Values]:
    """Return the expected weights and values, folded as the candidate is."""
    norms = loaded.reading.norms
    return folded_weights(plan.network, weights, norms), folded_values(plan.network, values, norms)


def _first(steps: Sequence[Deviation]) -> Deviation | None:
    """Return the first step that differs."""
    return next((step for step in steps if step.error is not None and not step.agrees), None)


def _same(loaded: Loaded, steps: Sequence[Deviation], outputs: Sequence[Deviation]) -> bool:
    """Tell whether the captured graph is known to compute the candidate's results, without running it.

    It is, if the graph equals the specification's, and every step and every output agrees with the specification's.
    """
    same_graph = not loaded.unmatched and not differences(loaded.reading.alignment)
    return same_graph and all(each.agrees for each in (*steps, *outputs))


def _check_capture(loaded: Loaded, inputs: Sequence[Tensor], results: Mapping[str, Tensor], error: str) -> None:
    if error:
        return
    captured = loaded.reading.capture
    values = executed(captured, loaded.module.tensors, inputs)
    for tap, path in captured.network.results.items():
        if tap in results and not relative_error(values[path], results[tap]) <= CAPTURE_LIMIT:
            off = relative_error(values[path], results[tap])
            raise CaptureError(f"the captured graph is off by {off:.2g} from what the candidate computes at {tap}")
