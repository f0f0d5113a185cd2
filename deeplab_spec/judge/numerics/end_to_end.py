"""Compares the outputs of whole runs with the oracle's; also of a candidate whose graph is not used."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.capture.candidate.module import ModuleCandidate
from deeplab_spec.capture.capture import CallSettings
from deeplab_spec.execute.interpreter import Values, run
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.execute.weights import Draw, challenge
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Output, Pair, roles
from deeplab_spec.judge.evidence import Evidence, PlantedFault
from deeplab_spec.judge.finding import Deviation
from deeplab_spec.judge.interface.observe import images
from deeplab_spec.judge.load_weights import UNMATCHED
from deeplab_spec.judge.numerics.planted import Compare, FaultyEnd, Plant, of_ends
from deeplab_spec.judge.numerics.steps import Loaded
from deeplab_spec.judge.outputs import Answer, Overflow, begin_call, call_candidate, overflow_of
from deeplab_spec.judge.plan import Plan, Taps
from deeplab_spec.judge.precision.run import cast, dtype_of, moved, stored
from deeplab_spec.precision import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, RATIO_LIMIT

END_TO_END_LIMIT: Final = 1e-9
"""Largest relative error end to end in float64. Rounding, amplified over 140 layers, stays below 1e-12; the smallest
known fault, a result scaled by 1.0001, is at 1e-4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioned:
    """What whole runs are compared with: weights that do not amplify rounding.

    Attributes:
        plan: The plan.
        inputs: The inputs, in float64.
        weights: The weights in float64; some normalisations may be folded.
        oracle: The oracle's outputs, and the values at which the faulty ends start, by path.
        faulty: Ends of the network, each with a fault.
    """

    plan: Plan
    inputs: Sequence[Tensor]
    weights: Mapping[str, Tensor]
    oracle: Values
    faulty: tuple[FaultyEnd, ...]

    @property
    def taps(self) -> Taps:
        """The shapes of the outputs by tap."""
        sizes = [(int(value.shape[-2]), int(value.shape[-1])) for value in self.inputs]
        paths = (node.path for node in self.plan.network.inputs)
        return self.plan.taps(dict(zip(paths, sizes, strict=True)), self.plan.batch)

    def planted_faults(
        self, clause: str, values: Values, weights: Mapping[str, Tensor], compare: Compare, plant: Plant
    ) -> Iterator[PlantedFault]:
        """Plant faults in the outputs of a run with these values and weights."""
        right = {name: values[path] for name, path in self.plan.network.results.items()}
        return of_ends(clause, self.faulty, right, values, weights, compare, plant)


def begin_float64(loaded: Loaded, conditioned: Conditioned) -> Callable[[], Answer]:
    """Start the call of a candidate in float64, with the weights of whole runs."""
    device = torch.device(conditioned.plan.request.device)
    with moved(loaded.module, device):
        return begin_call(loaded.module, conditioned.inputs, conditioned.taps, device=device)


def begin_float32(loaded: Loaded, conditioned: Conditioned) -> Callable[[], Answer]:
    """Start the call of a candidate in float32; it is in float64 again afterwards.

    The calls after which a candidate must still be right follow, while the judge computes.
    """
    plan, device = conditioned.plan, torch.device(conditioned.plan.request.device)
    inputs = [value.float() for value in conditioned.inputs]
    with stored(loaded.module, torch.float32), moved(loaded.module, device):
        waiting = begin_call(loaded.module, inputs, conditioned.taps, device=device, settings=COMPILED)
        if isinstance(loaded.module, ModuleCandidate):
            loaded.module.exercise(images(plan, plan.small[-1], plan.batch, torch.float32, plan.request.seed, device))
    return waiting


def compare_float64(
    loaded: Loaded, conditioned: Conditioned, waiting: Callable[[], Answer], first: Deviation | None
) -> tuple[Answer, tuple[Deviation, ...], list[PlantedFault]]:
    """Compare the outputs in float64.

    Args:
        loaded: The candidate.
        conditioned: What it is compared with.
        waiting: Waits for the outputs.
        first: The first step that differs; it is the origin of every difference.

    Returns:
        The call of the candidate, the comparisons, and the planted faults.
    """
    inputs, oracle = conditioned.inputs, conditioned.oracle
    allowed = dict.fromkeys((tap for tap, _ in conditioned.taps), END_TO_END_LIMIT)

    def compare(stand_in: nn.Module) -> tuple[Deviation, ...]:
        return compare_outputs(loaded, call_candidate(stand_in, inputs, conditioned.taps), oracle, allowed, None)

    def plant(evidence: Evidence, seen: tuple[Deviation, ...]) -> Evidence:
        return replace(evidence, end_to_end=seen)

    planted_faults = list(conditioned.planted_faults("VALUES-END-TO-END", oracle, conditioned.weights, compare, plant))
    answer = waiting()
    return answer, compare_outputs(loaded, answer, oracle, allowed, first), planted_faults


def compare_float32(
    loaded: Loaded, conditioned: Conditioned, waiting: Callable[[], Answer], first: Deviation | None
) -> tuple[tuple[Deviation, ...], float | None, list[PlantedFault]]:
    """Compare the outputs in float32; the limit is a multiple of the specification's own error in float32.

    That error can be small by luck. Where a candidate exceeds the limit, it is the largest over three inputs, two of
    them one rounding apart from the first.

    Args:
        loaded: The candidate.
        conditioned: What it is compared with.
        waiting: Waits for the outputs.
        first: The first step that differs; it is the origin of every difference.

    Returns:
        The comparisons, the specification's own error, and the planted faults; no error and no faults if the
        specification is not finite in float32.
    """
    oracle = conditioned.oracle
    weights = {name: tensor.float() for name, tensor in conditioned.weights.items()}
    inputs = [value.float() for value in conditioned.inputs]
    named = {node.path: value for node, value in zip(loaded.expected.inputs, inputs, strict=True)}
    overflow = Overflow()
    reference = run(loaded.expected, weights, named, keep=oracle.keys(), watch=overflow)
    taps = loaded.expected.results
    if overflow.path:
        answer = Answer(results={}, error=overflow.reason(FLOAT32.name))
        return compare_outputs(loaded, answer, oracle, dict.fromkeys(taps, 0.0), first), None, []
    allowed = _allowed(taps, [reference], oracle)

    def compare(stand_in: nn.Module) -> tuple[Deviation, ...]:
        return compare_outputs(loaded, call_candidate(stand_in, inputs, conditioned.taps), oracle, allowed, None)

    def plant(evidence: Evidence, seen: tuple[Deviation, ...]) -> Evidence:
        return replace(evidence, end_to_end_float32=seen)

    planted_faults = list(conditioned.planted_faults("VALUES-FLOAT32", reference, weights, compare, plant))
    answer = waiting()
    found = compare_outputs(loaded, answer, oracle, allowed, first)
    if any(each.error is not None and not each.agrees for each in found):
        apart = (run(loaded.expected, weights, each, keep=taps.values()) for each in one_rounding_apart(named))
        allowed.update(_allowed(taps, [reference, *apart], oracle))
        planted_faults = list(conditioned.planted_faults("VALUES-FLOAT32", reference, weights, compare, plant))
        found = compare_outputs(loaded, answer, oracle, allowed, first)
    return found, max(allowed.values()) / RATIO_LIMIT, planted_faults


def _allowed(taps: Mapping[str, str], runs: Sequence[Values], oracle: Values) -> dict[str, float]:
    """Return the largest error in float32 that is not a finding, by tap: a multiple of the largest one of some runs.

    Args:
        taps: The path of each output, by tap.
        runs: The specification's values in float32.
        oracle: Its values in float64.
    """
    floor = torch.finfo(torch.float32).eps
    return {
        tap: RATIO_LIMIT * max(floor, *(relative_error(values[path], oracle[path]) for values in runs))
        for tap, path in taps.items()
    }


def compare_outputs(
    loaded: Loaded, answer: Answer, oracle: Values, allowed: Mapping[str, float], first: Deviation | None
) -> tuple[Deviation, ...]:
    """Compare the outputs of a run by tap.

    Args:
        loaded: The candidate.
        answer: The call of the candidate.
        oracle: The expected values, by the path of the output.
        allowed: The largest relative error that is not a finding, by tap.
        first: The first step that differs; it is the origin of every difference.
    """
    deviations = []
    for node in loaded.expected.outputs:
        tap = node.op.name if isinstance(node.op, Output) else ""
        overflow = overflow_of(node.path, oracle[node.path], FLOAT64.name)
        reason = overflow or answer.error
        if loaded.unmatched:
            reason = UNMATCHED
        elif not reason and tap not in answer.results:
            reason = f"the candidate does not return {tap}"
        deviations.append(
            Deviation(
                path=node.path,
                candidate_path=first.candidate_path if first else loaded.reading.alignment.partner.get(node.path),
                origin=first.origin if first else node.path,
                error=None if reason else relative_error(answer.results[tap], oracle[node.path]),
                allowed=allowed[tap],
                reason=reason,
            )
        )
    return tuple(deviations)


COMPILED: Final = CallSettings(original=False)
"""Calls a compiled module in its compiled form."""

CAST: Final = {each.name: dtype_of(each.storage) for each in (FLOAT32, BFLOAT16, FLOAT16)}
"""Precisions in which the limit is a multiple of the specification's own error, by name: the dtype of every tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One input, one draw of weights, and the specification's values for them.

    Attributes:
        network: The specification.
        weights: By path and role, in float64.
        inputs: A float64 tensor by the path of each input.
        values: The specification's values by path, in float64.
        lower: The values in other dtypes, computed when they are needed.
        errors: The error of the specification's own output in a dtype; None if a value is not finite.
    """

    network: Network
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    values: Values
    lower: dict[torch.dtype, Values] = field(default_factory=dict, repr=False)
    errors: dict[torch.dtype, float | None] = field(default_factory=dict, repr=False)

    @property
    def oracle(self) -> Tensor:
        """The specification's output."""
        return self.values[self.network.outputs[0].path]

    def values_in(self, dtype: torch.dtype) -> Values:
        """Return the specification's own values in a dtype."""
        if dtype is torch.float64:
            return self.values
        if dtype not in self.lower:
            self.lower[dtype] = run(self.network, cast(self.weights, dtype), cast(self.inputs, dtype))
        return self.lower[dtype]

    def own_error(self, dtype: torch.dtype) -> float | None:
        """Return the relative error of the specification's own output in a dtype, at least one rounding.

        In float32 it is the largest of three errors, two of them on inputs one rounding apart, as for a candidate that
        exceeds the limit.

        Returns:
            None if a value of the specification is not finite in that dtype.
        """
        if dtype not in self.errors:
            values = self.values_in(dtype)
            finite = all(bool(value.isfinite().all()) for value in values.values())
            output = self.network.outputs[0].path
            weights = cast(self.weights, dtype)
            apart = one_rounding_apart(cast(self.inputs, dtype)) if dtype is torch.float32 else ()
            runs = (run(self.network, weights, each, keep=(output,)) for each in apart)
            found = (relative_error(each[output], self.oracle) for each in (values, *runs))
            self.errors[dtype] = max(torch.finfo(dtype).eps, *found) if finite else None
        return self.errors[dtype]


def trial(network: Network, image: Pair, draw: Draw, seed: int) -> Trial:
    """Draw an image and weights to judge candidates with.

    Args:
        network: The specification; it has one input.
        image: Height and width.
        draw: The purpose of the weights.
        seed: Seed of image and weights.
    """
    (entry,) = network.inputs
    generator = torch.Generator().manual_seed(seed)
    inputs = {entry.path: torch.randn(1, 3, *image, generator=generator, dtype=torch.float64)}
    weights, values = challenge(network, inputs, draw, seed)
    return Trial(network=network, weights=weights, inputs=inputs, values=values)


def one_rounding_apart(inputs: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Return inputs one rounding larger, and one smaller: changes as small as those of a correct rewrite.

    A network can have a small error on one input by luck, and correct rewrites several times that error.
    """
    for sign in (1, -1):
        yield {path: value * (1 + sign * torch.finfo(value.dtype).eps) for path, value in inputs.items()}


def refused(found: float) -> bool:
    """Tell whether the relative error of an output in float64 exceeds the limit."""
    return not found <= END_TO_END_LIMIT


def refused_in(found: float, own: float) -> bool:
    """Tell whether the error of an output in a lower precision exceeds the limit.

    Args:
        found: The candidate's error.
        own: The specification's own error in that precision.

    Raises:
        ValueError: If the specification's own error is not finite.
    """
    if not isfinite(own):
        raise ValueError(f"the specification's own error must be finite, but is {own}")
    return not found <= RATIO_LIMIT * own


def unmatched_tensors(network: Network, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the tensors of the specification that are missing in a network, or have another shape there."""
    stored = {f"{node.path}.{role}": shape for node in network for role, shape in roles(node.op).items()}
    return tuple(name for name, tensor in weights.items() if stored.get(name) != tuple(tensor.shape))
