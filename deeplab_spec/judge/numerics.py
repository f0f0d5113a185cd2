"""Observes a candidate's values: step by step, and end to end, against the oracle in float64.

Two draws of weights serve two ends. In the first, every operation sees values of every kind; each
step of the candidate runs on the oracle's own values, so that no fault hides behind another's
error. In the second, rounding is not amplified over the depth; the whole candidate runs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.align.channels import channel_orders
from deeplab_spec.align.differences import Origins, differences
from deeplab_spec.align.intervals import never_negative
from deeplab_spec.capture.module import Capture, state_of
from deeplab_spec.checks.evidence import Deviation, Misfit
from deeplab_spec.errors import CaptureError
from deeplab_spec.execute.interpreter import Values, run
from deeplab_spec.execute.weights import Draw, challenge
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Conv2d, Output
from deeplab_spec.judge.interface import Tick, images
from deeplab_spec.judge.plan import Plan
from deeplab_spec.judge.results import ask
from deeplab_spec.judge.structure import Reading
from deeplab_spec.judge.transfer import Place, by_role, places, transfer

STEP: Final = 1e-11
"""Relative error of one step in float64: the longest sum, over 18,432 products, rounds to 1e-14;
the smallest fault of one step, an eps in the wrong place of a channel of low variance, is at 1e-2."""

END: Final = 1e-9
"""Relative error end to end in float64: rounding amplified over 140 layers stays below 1e-12;
the smallest fault seen, a result scaled by 1.0001, is at 1e-4."""

RATIO: Final = 3.0
"""Error of a float32 run over that of the specification in float32: correct rewrites stay below
1.7, the closest fault was at 4.6."""

CAPTURE: Final = 1e-9
"""Relative difference between a module and its captured graph, both in float64."""

CLIP: Final = 6.0
"""Where a clipped ReLU differs from a ReLU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What numerics found out.

    Attributes:
        parameters: How many tensors were placed.
        misfits: Tensors without a place.
        steps: Local comparisons in float64.
        ends: End-to-end comparisons in float64.
        ends_float32: End-to-end comparisons in float32.
        float32_error: Relative error of the specification in float32; None if it was not run.
        covered: Operations that saw values of every kind.
        operations: Operations that treat kinds of values differently.
    """

    parameters: int
    misfits: tuple[Misfit, ...]
    steps: tuple[Deviation, ...]
    ends: tuple[Deviation, ...]
    ends_float32: tuple[Deviation, ...]
    float32_error: float | None
    covered: int
    operations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A candidate that can hold the specification's weights.

    Attributes:
        module: The candidate, in float64.
        reading: Its graph beside the specification's.
        places: Where each tensor goes.
        misfits: Tensors without a place.
    """

    module: nn.Module
    reading: Reading
    places: tuple[Place, ...]
    misfits: tuple[Misfit, ...]

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights into the candidate."""
        transfer(weights, self.places, state_of(self.module))


def prepare(module: nn.Module, reading: Reading, plan: Plan) -> Loaded:
    """Turn a candidate to float64 and find the place of every weight."""
    module.double()
    orders = channel_orders(reading.alignment, reading.capture.network)
    found, misfits = places(plan.network, reading.alignment.partner, reading.capture, state_of(module), orders)
    return Loaded(module=module, reading=reading, places=found, misfits=misfits)


def observe(loaded: Loaded, plan: Plan, dtypes: Sequence[str], tick: Tick) -> Observed:
    """Compare a candidate's values with the oracle's.

    Raises:
        CaptureError: If the captured graph does not compute what the candidate computes.
    """
    sizes = plan.inputs_at(loaded.reading.image)
    inputs = images(plan, sizes, 1, torch.float64, plan.request.seed)
    named = {node.path: value for node, value in zip(plan.network.inputs, inputs, strict=True)}
    kernels: Mapping[str, Tensor] | None = None
    steps: tuple[Deviation, ...] = ()
    coverage: list[Deviation] = []
    if "float64" in dtypes:
        tick("drawing weights that every step can be seen with")
        kernels, oracle = challenge(plan.network, named, Draw.COVERAGE, plan.request.seed)
        loaded.load(kernels)
        tick("comparing step by step")
        steps = _Steps(loaded, plan, oracle).compare()
        coverage = [step for step in steps if isinstance(plan.network[step.path].op, Activation)]
        del oracle
    tick("drawing weights that do not amplify rounding")
    outputs = {node.path for node in plan.network.outputs}
    weights, oracle = challenge(
        plan.network, named, Draw.CONDITIONING, plan.request.seed + 1, keep=outputs, kernels=kernels
    )
    loaded.load(weights)
    first = _first(steps)
    ends = _ends(loaded, plan, inputs, oracle, steps, tick) if "float64" in dtypes else ()
    ends32, error32 = (
        _float32(loaded, plan, inputs, weights, oracle, first, tick) if "float32" in dtypes else ((), None)
    )
    return Observed(
        parameters=len(loaded.places),
        misfits=loaded.misfits,
        steps=steps,
        ends=ends,
        ends_float32=ends32,
        float32_error=error32,
        covered=sum(step.covered for step in coverage),
        operations=len(coverage),
    )


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the root mean square of the difference, over that of the expected value."""
    if actual.shape != expected.shape:
        return math.inf
    scale = float(torch.linalg.vector_norm(expected.double()))
    error = float(torch.dist(actual.double(), expected.double()))
    return error / (scale if scale > 0 else math.sqrt(expected.numel()))


class _Steps:
    """Runs every aligned step of a candidate on the oracle's values."""

    def __init__(self, loaded: Loaded, plan: Plan, oracle: Values) -> None:
        self.capture = _in_double(loaded.reading.capture)
        self.expected = plan.network
        self.alignment = loaded.reading.alignment
        self.partner = self.alignment.partner
        self.back = {right: left for left, right in self.partner.items()}
        self.orders = channel_orders(self.alignment, self.capture.network)
        self.state = state_of(loaded.module)
        self.oracle = oracle
        self.origins = Origins(self.alignment)
        self.positive = never_negative(self.expected)
        self.readers = self.expected.readers()

    def compare(self) -> tuple[Deviation, ...]:
        ordered = (left for left, _ in self.alignment.pairs if left in self.partner)
        return tuple(self._deviation(left) for left in ordered if left is not None and self.expected[left].inputs)

    def _deviation(self, path: str) -> Deviation:
        other = self.partner[path]
        bridge: list[str] = []
        try:
            with torch.no_grad():
                error = relative_error(self._value(other, bridge, first=True), self._oracle_value(path, other))
        except (RuntimeError, IndexError, KeyError, ValueError):
            error = math.inf  # the step does not even run on the specification's values
        reason = self._uncovered(self.expected[path])
        return Deviation(
            path=path,
            candidate_path=other,
            place=self._place(path, bridge),
            error=error,
            allowed=STEP,
            covered=not reason,
            reason=reason,
        )

    def _oracle_value(self, path: str, other: str) -> Tensor:
        """Return the specification's value with its channels in the candidate's order."""
        value = self.oracle[path]
        order = self.orders.get(other)
        return value if order is None or max(order) >= value.shape[1] else value[:, list(order)]

    def _value(self, path: str, bridge: list[str], *, first: bool = False) -> Tensor:
        """Compute a candidate's value from the oracle's values of the aligned nodes before it."""
        node = self.capture.network[path]
        if not first:
            if path in self.back:
                return self._oracle_value(self.back[path], path)
            if path in self.alignment.candidate.network:
                bridge.append(path)
        if not node.inputs:
            return self.oracle[self.back[path]]
        inputs = [self._value(before, bridge) for before in node.inputs]
        if isinstance(node.op, Output):
            return inputs[0]
        return self.capture.step(path, inputs, self.state)

    def _place(self, path: str, bridge: list[str]) -> str:
        """Return the node to blame: a missing one first, else where an extra one stands."""
        missing = path
        for before in self.alignment.expected.network[path].inputs:
            while before not in self.partner:
                missing = before
                before = self.alignment.expected.network[before].inputs[0]  # noqa: PLW2901 - walking back
        if missing == path and bridge:
            return self.origins.anchor(self.alignment.candidate.network[bridge[-1]])
        return missing

    def _uncovered(self, node: Node) -> str:
        """Say what a node's values lack to show a fault of it; empty if nothing."""
        match node.op:
            case Activation():
                arriving = self.oracle[node.inputs[0]]
                if not bool(arriving.max() > CLIP):
                    return f"no value above {CLIP:g} arrived, so a clipped ReLU would not show"
                if node.inputs[0] not in self.positive and not bool(arriving.min() < 0):
                    return "no negative value arrived, so a missing ReLU would not show"
            case Conv2d() as op if op.kernel != (1, 1):
                height, width = self.oracle[node.inputs[0]].shape[2:]
                if max(op.rate) >= min(height, width):
                    least = max(op.rate) + 1
                    return f"a map of {height}x{width} cannot show rate {max(op.rate)}; it takes a side of {least}"
            case _:
                pass
        return ""


def _in_double(captured: Capture) -> Capture:
    constants = {
        name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in captured.constants.items()
    }
    return replace(captured, constants=constants)


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
    expected = plan.taps(plan.inputs_at(loaded.reading.image), 1)
    answer = ask(loaded.module, inputs, expected)
    allowed = dict.fromkeys((tap for tap, _ in expected), END)
    ends = _compare_ends(loaded, plan.network, answer.results, oracle, allowed, answer.error, _first(steps))
    same_graph = not loaded.misfits and not differences(loaded.reading.alignment)
    if not (same_graph and all(map(_agrees, (*steps, *ends)))):
        tick("checking the captured graph by running it")
        _check_capture(loaded, inputs, answer.results, answer.error)
    return ends


def _check_capture(loaded: Loaded, inputs: Sequence[Tensor], results: Mapping[str, Tensor], error: str) -> None:
    captured = _in_double(loaded.reading.capture)
    if error:
        return
    state = state_of(loaded.module)
    named = {node.path: value for node, value in zip(captured.network.inputs, inputs, strict=True)}
    outputs = {node.path: node.op.name for node in captured.network.outputs if isinstance(node.op, Output)}
    with torch.no_grad():
        values = run(
            captured.network,
            by_role(captured, state),
            named,
            keep=outputs,
            opaque=lambda node, arriving: captured.step(node.path, arriving, state),
        )
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
    named = {node.path: value for node, value in zip(plan.network.inputs, single, strict=True)}
    outputs = [node.path for node in plan.network.outputs]
    reference = run(plan.network, {name: tensor.float() for name, tensor in weights.items()}, named, keep=outputs)
    floor = torch.finfo(torch.float32).eps
    errors = {
        node.op.name: max(relative_error(reference[node.path], oracle[node.path]), floor)
        for node in plan.network.outputs
        if isinstance(node.op, Output)
    }
    loaded.module.float()
    answer = ask(loaded.module, single, plan.taps(plan.inputs_at(loaded.reading.image), 1))
    loaded.module.double()
    allowed = {tap: RATIO * error for tap, error in errors.items()}
    deviations = _compare_ends(loaded, plan.network, answer.results, oracle, allowed, answer.error, first)
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
