"""Compares the outputs of whole runs with the oracle's, in float64 and in float32."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.execute.interpreter import Values, run
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.graph.ops import Output
from deeplab_spec.judge.deviation import Deviation
from deeplab_spec.judge.evidence import Evidence
from deeplab_spec.judge.load_weights import UNMATCHED
from deeplab_spec.judge.numerics.planted_end_to_end import Compare, FaultyEnd, Plant, of_ends
from deeplab_spec.judge.numerics.steps import Loaded
from deeplab_spec.judge.numerics.tensor_compare import Overflow, overflow_of
from deeplab_spec.judge.outputs import Answer, call_candidate
from deeplab_spec.judge.plan import Plan, Taps
from deeplab_spec.judge.planted import PlantedFault
from deeplab_spec.judge.precision.run import moved, stored
from deeplab_spec.precision import FLOAT32, FLOAT64, RATIO_LIMIT

END_TO_END_LIMIT: Final = 1e-9
"""Largest relative error end to end in float64. Rounding, amplified over 140 layers, stays below 1e-12; the smallest
known fault, a result scaled by 1.0001, is at 1e-4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioned:
    """What whole runs are compared with: weights that do not amplify rounding.

    Attributes:
        plan: The plan.
        inputs: The inputs, in float64.
        weights: The weights, in float64.
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
        outputs = self.plan.network.outputs
        right = {node.op.name: values[node.path] for node in outputs if isinstance(node.op, Output)}
        return of_ends(clause, self.faulty, right, values, weights, compare, plant)


def compare_float64(
    loaded: Loaded, conditioned: Conditioned, first: Deviation | None
) -> tuple[Answer, tuple[Deviation, ...], list[PlantedFault]]:
    """Compare the outputs in float64.

    Args:
        loaded: The candidate.
        conditioned: What it is compared with; its weights are loaded.
        first: The first step that differs; it is the origin of every difference.

    Returns:
        The call of the candidate, the comparisons, and the planted faults.
    """
    inputs, oracle = conditioned.inputs, conditioned.oracle
    allowed = dict.fromkeys((tap for tap, _ in conditioned.taps), END_TO_END_LIMIT)
    with moved(loaded.module, conditioned.plan.device):
        answer = call_candidate(loaded.module, inputs, conditioned.taps, device=conditioned.plan.device)

    def compare(stand_in: nn.Module) -> tuple[Deviation, ...]:
        return compare_outputs(loaded, call_candidate(stand_in, inputs, conditioned.taps), oracle, allowed, None)

    def plant(evidence: Evidence, seen: tuple[Deviation, ...]) -> Evidence:
        return replace(evidence, end_to_end=seen)

    planted_faults = list(conditioned.planted_faults("VALUES-END-TO-END", oracle, conditioned.weights, compare, plant))
    return answer, compare_outputs(loaded, answer, oracle, allowed, first), planted_faults


def compare_float32(
    loaded: Loaded, conditioned: Conditioned, first: Deviation | None
) -> tuple[tuple[Deviation, ...], float | None, list[PlantedFault]]:
    """Compare the outputs in float32; the limit is a multiple of the specification's own error in float32.

    Args:
        loaded: The candidate; it is in float64 again afterwards.
        conditioned: What it is compared with; its weights are loaded.
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
    floor = torch.finfo(torch.float32).eps
    errors = {
        node.op.name: max(relative_error(reference[node.path], oracle[node.path]), floor)
        for node in loaded.expected.outputs
        if isinstance(node.op, Output)
    }
    allowed = {tap: RATIO_LIMIT * error for tap, error in errors.items()}
    if overflow.path:
        answer = Answer(results={}, error=overflow.reason(FLOAT32.name))
        return compare_outputs(loaded, answer, oracle, dict.fromkeys(errors, 0.0), first), None, []
    device = conditioned.plan.device
    with stored(loaded.module, torch.float32), moved(loaded.module, device):
        answer = call_candidate(loaded.running, inputs, conditioned.taps, device=device)

    def compare(stand_in: nn.Module) -> tuple[Deviation, ...]:
        return compare_outputs(loaded, call_candidate(stand_in, inputs, conditioned.taps), oracle, allowed, None)

    def plant(evidence: Evidence, seen: tuple[Deviation, ...]) -> Evidence:
        return replace(evidence, end_to_end_float32=seen)

    planted_faults = list(conditioned.planted_faults("VALUES-FLOAT32", reference, weights, compare, plant))
    return compare_outputs(loaded, answer, oracle, allowed, first), max(errors.values()), planted_faults


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
