"""Observes a candidate's values: step by step, and end to end, against the oracle in float64.

Two draws of weights serve two ends. In the first, every operation sees values of every kind; each
step of the candidate runs on the oracle's own values, so that no fault hides behind another's
error. In the second, rounding is not amplified over the depth; the whole candidate runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.align.channels import channel_orders
from deeplab_spec.align.differences import differences
from deeplab_spec.capture.module import state_of
from deeplab_spec.checks.evidence import Deviation, Misfit, Witness
from deeplab_spec.errors import CaptureError
from deeplab_spec.execute.folding import folded_values, folded_weights
from deeplab_spec.execute.interpreter import Values, run
from deeplab_spec.execute.weights import Draw, challenge
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, Output
from deeplab_spec.judge.interface import Tick, images
from deeplab_spec.judge.plan import Plan
from deeplab_spec.judge.results import ask
from deeplab_spec.judge.running import executed, relative_error
from deeplab_spec.judge.steps import Loaded, Steps
from deeplab_spec.judge.structure import Reading
from deeplab_spec.judge.transfer import places
from deeplab_spec.judge.witness import shrunk

END: Final = 1e-9
"""Relative error end to end in float64: rounding amplified over 140 layers stays below 1e-12;
the smallest fault seen, a result scaled by 1.0001, is at 1e-4."""

RATIO: Final = 3.0
"""Error of a float32 run over that of the specification in float32: correct rewrites stay below
1.7, the closest fault was at 4.6."""

CAPTURE: Final = 1e-9
"""Relative difference between a module and its captured graph, both in float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What numerics found out.

    Attributes:
        parameters: How many tensors were placed.
        misfits: Tensors without a place.
        steps: Local comparisons in float64.
        first: The first of them that differs.
        witness: The smallest input found that shows it.
        ends: End-to-end comparisons in float64.
        ends_float32: End-to-end comparisons in float32.
        float32_error: Relative error of the specification in float32; None if it was not run.
        covered: Operations that saw values of every kind.
        operations: Operations that treat kinds of values differently.
    """

    parameters: int
    misfits: tuple[Misfit, ...]
    steps: tuple[Deviation, ...]
    first: Deviation | None
    witness: Witness | None
    ends: tuple[Deviation, ...]
    ends_float32: tuple[Deviation, ...]
    float32_error: float | None
    covered: int
    operations: int

    @property
    def float64_error(self) -> float | None:
        """Largest relative error end to end in float64; None if it was not run."""
        return max((end.error for end in self.ends if end.error is not None), default=None)

    @property
    def float32_ratio(self) -> float | None:
        """Largest error in float32 over that of the specification; None if it was not run."""
        ratios = (RATIO * end.error / end.allowed for end in self.ends_float32 if end.error is not None)
        return max(ratios, default=None)


def prepare(module: nn.Module, running: nn.Module, reading: Reading) -> Loaded:
    """Turn a candidate to float64 and find the place of every weight."""
    module.double()
    orders = channel_orders(reading.alignment, reading.capture.network)
    found, misfits = places(reading.expected, reading.alignment.partner, reading.capture, state_of(module), orders)
    return Loaded(module=module, running=running, reading=reading, places=found, misfits=misfits)


def observe(loaded: Loaded, plan: Plan, dtypes: Sequence[str], tick: Tick) -> Observed:
    """Compare a candidate's values with the oracle's.

    Raises:
        CaptureError: If the captured graph does not compute what the candidate computes.
    """
    sizes = plan.inputs_at(loaded.reading.image)
    inputs = images(plan, sizes, plan.batch, torch.float64, plan.request.seed)
    named = {node.path: value for node, value in zip(loaded.expected.inputs, inputs, strict=True)}
    kernels: Mapping[str, Tensor] | None = None
    steps: tuple[Deviation, ...] = ()
    coverage: list[Deviation] = []
    first: Deviation | None = None
    witness: Witness | None = None
    if "float64" in dtypes:
        tick("drawing weights that every step can be seen with")
        kernels, oracle = challenge(plan.network, named, Draw.COVERAGE, plan.request.seed)
        weights, oracle = _as_compared(loaded, plan, kernels, oracle)
        loaded.load(weights)
        tick("comparing step by step")
        comparing = Steps(loaded, oracle, only_size=bool(plan.limits.sides))
        steps = comparing.compare()
        first = _first(steps)
        if first:
            tick("looking for the smallest input that shows it")
            witness = shrunk(comparing, plan, weights, first.path, loaded.reading.image)
        coverage = [step for step in steps if isinstance(loaded.expected[step.path].op, Activation)]
        del weights, oracle, comparing
    tick("drawing weights that do not amplify rounding")
    results = {node.path for node in loaded.expected.outputs}
    drawn, values = challenge(
        plan.network, named, Draw.CONDITIONING, plan.request.seed + 1, keep=results, kernels=kernels
    )
    weights, oracle = _as_compared(loaded, plan, drawn, values)
    loaded.load(weights)
    ends = _ends(loaded, plan, inputs, oracle, steps, tick) if "float64" in dtypes else ()
    ends32, error32 = (
        _float32(loaded, plan, inputs, weights, oracle, first, tick) if "float32" in dtypes else ((), None)
    )
    return Observed(
        parameters=len(loaded.places),
        misfits=loaded.misfits,
        steps=steps,
        first=first,
        witness=witness,
        ends=ends,
        ends_float32=ends32,
        float32_error=error32,
        covered=sum(step.covered for step in coverage),
        operations=len(coverage),
    )


def _as_compared(
    loaded: Loaded, plan: Plan, weights: Mapping[str, Tensor], values: Values
) -> tuple[Mapping[str, Tensor], Values]:
    """Return weights and values of what the candidate is held against, in the form in which it is compared."""
    norms = loaded.reading.norms
    return folded_weights(plan.network, weights, norms), folded_values(plan.network, values, norms)


def _agrees(deviation: Deviation) -> bool:
    return deviation.error is not None and deviation.error <= deviation.allowed


def _first(steps: Sequence[Deviation]) -> Deviation | None:
    """Return the first step that differs."""
    return next((step for step in steps if step.error is not None and not _agrees(step)), None)


def _ends(
    loaded: Loaded, plan: Plan, inputs: Sequence[Tensor], oracle: Values, steps: Sequence[Deviation], tick: Tick
) -> tuple[Deviation, ...]:
    """Compare the results; where anything differs, the captured graph must give the candidate's results.

    Where nothing does, it gives them already: its calls were run one by one on the specification's values and
    agreed, its graph is the specification's, and so are the candidate's results.
    """
    tick("comparing end to end in float64")
    expected = plan.taps(plan.inputs_at(loaded.reading.image), plan.batch)
    answer = ask(loaded.module, inputs, expected)
    allowed = dict.fromkeys((tap for tap, _ in expected), END)
    ends = _compare_ends(loaded, loaded.expected, answer.results, oracle, allowed, answer.error, _first(steps))
    same_graph = not loaded.misfits and not differences(loaded.reading.alignment)
    if not (same_graph and all(map(_agrees, (*steps, *ends)))):
        tick("checking the captured graph by running it")
        _check_capture(loaded, inputs, answer.results, answer.error)
    return ends


def _check_capture(loaded: Loaded, inputs: Sequence[Tensor], results: Mapping[str, Tensor], error: str) -> None:
    if error:
        return
    captured = loaded.reading.capture
    values = executed(captured, state_of(loaded.module), inputs)
    outputs = {node.path: node.op.name for node in captured.network.outputs if isinstance(node.op, Output)}
    for path, tap in outputs.items():
        if tap in results and not relative_error(values[path], results[tap]) <= CAPTURE:
            off = relative_error(values[path], results[tap])
            raise CaptureError(f"the captured graph is off by {off:.2g} from what the candidate computes at {tap}")


def _float32(
    loaded: Loaded,
    plan: Plan,
    inputs: Sequence[Tensor],
    weights: Mapping[str, Tensor],
    oracle: Values,
    first: Deviation | None,
    tick: Tick,
) -> tuple[tuple[Deviation, ...], float]:
    tick("comparing end to end in float32")
    single = [value.float() for value in inputs]
    named = {node.path: value for node, value in zip(loaded.expected.inputs, single, strict=True)}
    outputs = [node.path for node in loaded.expected.outputs]
    reference = run(loaded.expected, {name: tensor.float() for name, tensor in weights.items()}, named, keep=outputs)
    floor = torch.finfo(torch.float32).eps
    errors = {
        node.op.name: max(relative_error(reference[node.path], oracle[node.path]), floor)
        for node in loaded.expected.outputs
        if isinstance(node.op, Output)
    }
    loaded.module.float()
    answer = ask(loaded.running, single, plan.taps(plan.inputs_at(loaded.reading.image), plan.batch))
    loaded.module.double()
    allowed = {tap: RATIO * error for tap, error in errors.items()}
    deviations = _compare_ends(loaded, loaded.expected, answer.results, oracle, allowed, answer.error, first)
    return deviations, max(errors.values())


def _compare_ends(
    loaded: Loaded,
    network: Network,
    results: Mapping[str, Tensor],
    oracle: Values,
    allowed: Mapping[str, float],
    error: str,
    first: Deviation | None,
) -> tuple[Deviation, ...]:
    """Compare the results by tap; a difference is blamed on the first step that differs."""
    deviations = []
    for node in network.outputs:
        tap = node.op.name if isinstance(node.op, Output) else ""
        reason = error
        if loaded.misfits:
            reason = "not every weight of the specification has a place, so the two cannot be run with the same weights"
        elif not error and tap not in results:
            reason = f"the candidate does not return {tap}"
        deviations.append(
            Deviation(
                path=node.path,
                candidate_path=first.candidate_path if first else loaded.reading.alignment.partner.get(node.path),
                place=first.place if first else node.path,
                error=None if reason else relative_error(results[tap], oracle[node.path]),
                allowed=allowed[tap],
                reason=reason,
            )
        )
    return tuple(deviations)
