"""Takes a step of gradient descent with a candidate and with the oracle, and compares them."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.errors import one_line
from deeplab_spec.execute.torch_settings import threads_for
from deeplab_spec.execute.training import Batch, train, updated_running
from deeplab_spec.graph.network import Network
from deeplab_spec.judge.deviation import Deviation
from deeplab_spec.judge.load_weights import Place
from deeplab_spec.judge.training.candidate import CandidateInTraining
from deeplab_spec.judge.training.dropout_hooks import dropout_disabled
from deeplab_spec.judge.training.evidence import NO_GRADIENT, Gradient, Movement, Trained
from deeplab_spec.judge.training.inputs import FirstBatch, TrainingInputs

STEP_LENGTH: Final = 0.01
"""Length of the step, over that of all parameters together."""

TOLERANCE: Final = 1e-7
"""Relative error in float64: rounding stays below 1e-11 over the depth of the network, in values as in gradients;
the smallest fault, a biased variance of some thousand values, is at 1e-4."""

ROUNDING: Final = 1e-15
"""Relative error of storing a parameter."""


def compare_steps(
    candidate: CandidateInTraining, first: FirstBatch, found: Trained, batch: Batch, wanted: Mapping[str, Tensor]
) -> Trained:
    """Compare running statistics and parameters of a candidate with the oracle's, over two steps.

    Args:
        candidate: The candidate.
        first: What the first batch gave it; it has been differentiated.
        found: What was observed before, gradients among it.
        batch: What the first batch gave the oracle.
        wanted: The oracle's gradients.
    """
    training = first.training
    gradients = found.gradients
    rate = STEP_LENGTH * _length(training.weights[name] for name in wanted) / max(_length(wanted.values()), ROUNDING)
    torch.optim.SGD(candidate.module.parameters(), lr=rate).step()
    stepped = candidate.held()
    expected = {name: training.weights[name] - rate * gradient for name, gradient in wanted.items()}
    candidate.load({**training.weights, **expected})
    candidate.restore(first.after)
    inputs = training.batch(1)
    second = candidate.call(inputs, training.taps(inputs), training.seed)
    if second.error:
        return replace(found, error=second.error)
    statistics = _statistics(candidate, first, found.movements, batch, expected)
    wrong = {*found.frozen, *(difference.path for difference in statistics if not difference.agrees)}
    forward = first_before(training.network, wrong)
    lacking = {gradient.path for gradient in gradients if not gradient.reaches}
    step = _steps(candidate, training, stepped, expected, {name: rate * value for name, value in wanted.items()})
    return replace(
        found,
        statistics=tuple(replace(entry, origin=forward.get(entry.path, entry.path)) for entry in statistics),
        step=_blamed(training, step, forward, lacking),
    )


def differentiate(candidate: CandidateInTraining, first: FirstBatch) -> str:
    """Differentiate the results of the first batch; return what that raised.

    It is done at once: some normalisations need their running statistics for it as they were.
    """
    candidate.module.zero_grad(set_to_none=True)
    results = first.answer.results
    terms = [(results[tap] * weight).sum() for tap, weight in first.training.cotangents().items()]
    total = torch.stack(terms).sum()
    if not total.requires_grad:
        return ""
    try:
        with dropout_disabled(candidate.module), threads_for(torch.float64):
            total.backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - foreign code may raise anything
        return one_line(error)
    return ""


def gradients_of(
    candidate: CandidateInTraining, training: TrainingInputs, wanted: Mapping[str, Tensor]
) -> tuple[Gradient, ...]:
    """Return the gradients of a candidate beside the oracle's, each with the node to blame."""
    found = _gradients(candidate, wanted)
    places = first_behind(training.network, {gradient.path for gradient in found if not gradient.reaches})
    return tuple(replace(gradient, origin=places.get(gradient.path, gradient.path)) for gradient in found)


def _gradients(candidate: CandidateInTraining, wanted: Mapping[str, Tensor]) -> tuple[Gradient, ...]:
    reached = candidate.gradients()
    largest = max((float(value.norm()) for value in wanted.values()), default=1.0)
    return tuple(
        Gradient(
            path=place.source.rpartition(".")[0],
            role=place.source.rpartition(".")[2],
            candidate_path=place.name,
            origin=place.source.rpartition(".")[0],
            expected=float(wanted[place.source].norm()) / largest,
            actual=None if (mine := reached[place.source]) is None else float(mine.norm()) / largest,
        )
        for place in candidate.wholes
        if place.source in wanted
    )


def _statistics(
    candidate: CandidateInTraining,
    first: FirstBatch,
    movements: Sequence[Movement],
    batch: Batch,
    expected: Mapping[str, Tensor],
) -> tuple[Deviation, ...]:
    """Compare running statistics after the first and after the second batch; the larger error counts.

    They follow with the momentum that the candidate has: what that must be, is another question.
    """
    training, momenta = first.training, _momenta(movements)
    with torch.no_grad(), threads_for(torch.float64):
        second = train(training.network, expected, training.named(training.batch(1)))
    running = {name: torch.zeros_like(value) for name, value in batch.statistics.items()}
    errors: dict[str, float] = {}
    for given, held in ((batch, first.moved), (second, candidate.statistics())):
        running = updated_running(running, given.statistics, momenta)
        for place in candidate.running:
            error = float(torch.dist(held[place.source], place.ordered(running[place.source])))
            error /= max(momenta[place.source] * _spread(given, place.source), ROUNDING)
            errors[place.source] = _larger(errors.get(place.source, 0.0), error)
    return tuple(_difference(place, errors[place.source], TOLERANCE) for place in candidate.running)


def _larger(left: float, right: float) -> float:
    """Return the larger of two errors; what is no number is larger than any."""
    return math.inf if math.isnan(right) else max(left, right)


def _spread(batch: Batch, name: str) -> float:
    """Return the size of what a running statistic follows: of a mean, that of the values."""
    path, _, role = name.rpartition(".")
    variance = batch.statistics[f"{path}.running_var"]
    if role == "running_var":
        return float(variance.norm())
    return math.sqrt(float((batch.statistics[name].square() + variance).sum()))


def _momenta(movements: Sequence[Movement]) -> dict[str, float]:
    return {
        f"{movement.path}.{role}": momentum
        for movement in movements
        for role, momentum in (("running_mean", movement.mean), ("running_var", movement.variance))
        if momentum is not None
    }


def _steps(
    candidate: CandidateInTraining,
    training: TrainingInputs,
    stepped: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    moves: Mapping[str, Tensor],
) -> tuple[Deviation, ...]:
    """Compare parameters after a step, by how far the oracle's moved; what rounding moves is allowed."""
    largest = max((float(move.norm()) for move in moves.values()), default=0.0)
    found = []
    for place in candidate.wholes:
        if place.source in expected:
            moved = float(moves[place.source].norm()) or ROUNDING
            stored = ROUNDING * float(training.weights[place.source].norm())
            error = float(torch.dist(stepped[place.source], place.ordered(expected[place.source])))
            allowed = TOLERANCE + (stored + NO_GRADIENT * largest) / moved
            found.append(_difference(place, error / moved, allowed))
    return tuple(found)


def _blamed(
    training: TrainingInputs, step: Sequence[Deviation], forward: Mapping[str, str], lacking: Collection[str]
) -> tuple[Deviation, ...]:
    """Blame a node for every parameter that moved otherwise: one whose values differ, if there is one."""
    wrong = {*lacking, *(difference.path for difference in step if not difference.agrees)}
    places: Mapping[str, str] = first_behind(training.network, wrong)
    if forward:
        earliest = next(node.path for node in training.network if node.path in set(forward.values()))
        places = dict.fromkeys(wrong, earliest)
    return tuple(
        replace(difference, origin=places.get(difference.path, difference.path))
        for difference in step
        if difference.path not in lacking
    )


def _difference(place: Place, error: float, allowed: float) -> Deviation:
    path, _, role = place.source.rpartition(".")
    return Deviation(path=path, role=role, candidate_path=place.name, origin=path, error=error, allowed=allowed)


def _length(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.norm()) ** 2 for tensor in tensors))


def first_before(network: Network, wrong: Collection[str]) -> dict[str, str]:
    """Return, for every wrong node, the first wrong one that its value comes from; itself if there is none.

    An error of a value spreads to what reads it.
    """
    return _first(wrong, [(node.path, node.inputs) for node in network])


def first_behind(network: Network, wrong: Collection[str]) -> dict[str, str]:
    """Return, for every wrong node, the last wrong one that its value goes to; itself if there is none.

    An error of a gradient spreads to what was read.
    """
    readers = network.readers()
    return _first(wrong, [(node.path, readers[node.path]) for node in reversed(network.nodes)])


def _first(wrong: Collection[str], order: list[tuple[str, tuple[str, ...]]]) -> dict[str, str]:
    """Follow errors along an order in which every node stands behind those that it follows."""
    position = {path: number for number, (path, _) in enumerate(order)}
    blamed: dict[str, str] = {}
    found: dict[str, str] = {}
    for path, before in order:
        reached = [blamed[other] for other in before if other in blamed]
        if path in wrong:
            reached.append(path)
            found[path] = min(reached, key=position.__getitem__)
        if reached:
            blamed[path] = min(reached, key=position.__getitem__)
    return found
