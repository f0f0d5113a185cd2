"""Compares an SGD step, gradients and running statistics of a candidate with the oracle's.

Errors spread: one of a value to the nodes after it, one of a gradient to the nodes before it. So every deviation has an
origin: the first node that differs in the direction in which the error spreads.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.execute.training import updated_running
from deeplab_spec.graph.network import Network
from deeplab_spec.judge.finding import Deviation
from deeplab_spec.judge.load_weights import Place
from deeplab_spec.judge.training.candidate import CandidateInTraining, FirstBatch, TrainingInputs
from deeplab_spec.judge.training.evidence import NO_GRADIENT, Gradient, Movement, Trained

STEP_LENGTH: Final = 0.01
"""Norm of the step, over that of all parameters."""

TOLERANCE: Final = 1e-7
"""Largest relative error in float64. Rounding stays below 1e-11 over the depth of the network, for values and
gradients; the smallest fault, a biased variance of a few thousand values, is at 1e-4."""

ROUNDING: Final = 1e-15
"""Relative error of storing a parameter."""


def compare_steps(
    candidate: CandidateInTraining,
    first: FirstBatch,
    found: Trained,
    batches: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    oracle_gradients: Mapping[str, Tensor],
) -> Trained:
    """Compare the candidate's running statistics after two batches, and its parameters after a step, with the oracle's.

    The first batch was differentiated on both sides; the evidence so far includes gradients. The oracle's statistics of
    the two batches are given.
    """
    training = first.training
    rate, expected = stepped(training, oracle_gradients)
    error = candidate.step(rate)
    if error:
        return replace(found, error=error)
    inputs = training.batch(1)
    candidate.restore(first.after)
    begun = candidate.begin(inputs, training.taps(inputs), training.seed)
    step = _steps(candidate, training, rate, oracle_gradients)
    second = begun()
    if not all(difference.agrees for difference in step):  # else its own weights are as good as the expected ones
        candidate.load(expected)
        candidate.restore(first.after)
        second = candidate.call(inputs, training.taps(inputs), training.seed)
    if second.error:
        return replace(found, error=second.error)
    statistics = _statistics(candidate, first, found.movements, batches)
    wrong = {*found.frozen, *(difference.path for difference in statistics if not difference.agrees)}
    forward = first_before(training.network, wrong)
    missing = {gradient.path for gradient in found.gradients if not gradient.reaches}
    return replace(
        found,
        statistics=tuple(replace(entry, origin=forward.get(entry.path, entry.path)) for entry in statistics),
        step=_with_origins(training, step, forward, missing),
    )


def stepped(training: TrainingInputs, gradients: Mapping[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    """Return the learning rate of a step, and the weights after it."""
    length = _length(training.weights[name] for name in gradients)
    rate = STEP_LENGTH * length / max(_length(gradients.values()), ROUNDING)
    moved = {name: training.weights[name] - rate * gradient for name, gradient in gradients.items()}
    return rate, {**training.weights, **moved}


def differentiate(candidate: CandidateInTraining, first: FirstBatch) -> str:
    """Run the backward pass of the first batch; return the error that it raised, if any.

    It must follow the forward pass at once: some normalisations need their running statistics unchanged.
    """
    results = first.answer.results
    cotangents = first.training.cotangents()
    for tap, weight in cotangents.items():
        if results[tap].shape != weight.shape:
            return f"missing, as {tap} has the shape {tuple(results[tap].shape)} instead of {tuple(weight.shape)}"
    return candidate.differentiate({first.answer.places[tap]: weight for tap, weight in cotangents.items()})


def gradients_of(
    candidate: CandidateInTraining, training: TrainingInputs, oracle_gradients: Mapping[str, Tensor]
) -> tuple[Gradient, ...]:
    """Return the gradients of a candidate and of the oracle, each with the origin of an error."""
    found = _gradients(candidate, oracle_gradients)
    places = first_behind(training.network, {gradient.path for gradient in found if not gradient.reaches})
    return tuple(replace(gradient, origin=places.get(gradient.path, gradient.path)) for gradient in found)


def _gradients(candidate: CandidateInTraining, oracle_gradients: Mapping[str, Tensor]) -> tuple[Gradient, ...]:
    reached = candidate.gradients()
    largest = max((float(value.norm()) for value in oracle_gradients.values()), default=1.0)
    return tuple(
        Gradient(
            path=place.source.rpartition(".")[0],
            role=place.source.rpartition(".")[2],
            candidate_path=place.name,
            origin=place.source.rpartition(".")[0],
            expected=float(oracle_gradients[place.source].norm()) / largest,
            actual=None if (mine := reached[place.source]) is None else float(mine.norm()) / largest,
        )
        for place in candidate.wholes
        if place.source in oracle_gradients
    )


def _statistics(
    candidate: CandidateInTraining,
    first: FirstBatch,
    movements: Sequence[Movement],
    batches: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
) -> tuple[Deviation, ...]:
    """Compare running statistics after the first and after the second batch; the larger error counts.

    The oracle uses the candidate's measured momentum, which another clause decides.
    """
    momenta = _momenta(movements)
    running = {name: torch.zeros_like(value) for name, value in batches[0].items()}
    errors: dict[str, float] = {}
    for batch, actual in zip(batches, (first.moved, candidate.statistics()), strict=True):
        running = updated_running(running, batch, momenta)
        for place in candidate.running:
            error = float(torch.dist(actual[place.source], place.ordered(running[place.source])))
            error /= max(momenta[place.source] * _spread(batch, place.source), ROUNDING)
            errors[place.source] = _larger(errors.get(place.source, 0.0), error)
    return tuple(_difference(place, errors[place.source], TOLERANCE) for place in candidate.running)


def _larger(left: float, right: float) -> float:
    """Return the larger of two errors; nan counts as infinite."""
    return math.inf if math.isnan(right) else max(left, right)


def _spread(batch: Mapping[str, Tensor], name: str) -> float:
    """Return the scale of a running statistic: the norm of the variances, or of the values for a mean."""
    path, _, role = name.rpartition(".")
    variance = batch[f"{path}.running_var"]
    if role == "running_var":
        return float(variance.norm())
    return math.sqrt(float((batch[name].square() + variance).sum()))


def _momenta(movements: Sequence[Movement]) -> dict[str, float]:
    return {
        f"{movement.path}.{role}": momentum
        for movement in movements
        for role, momentum in (("running_mean", movement.mean), ("running_var", movement.variance))
        if momentum is not None
    }


def _steps(
    candidate: CandidateInTraining, training: TrainingInputs, rate: float, gradients: Mapping[str, Tensor]
) -> tuple[Deviation, ...]:
    """Compare parameters after a step, relative to the oracle's change; changes by rounding are allowed."""
    stepped = candidate.tensors()
    norms = {name: rate * float(gradient.norm()) for name, gradient in gradients.items()}
    largest = max(norms.values(), default=0.0)
    found = []
    for place in candidate.wholes:
        if place.source in gradients:
            moved, start = norms[place.source] or ROUNDING, training.weights[place.source]
            expected = start - rate * gradients[place.source]
            error = float(torch.dist(stepped[place.source], place.ordered(expected)))
            allowed = TOLERANCE + (ROUNDING * float(start.norm()) + NO_GRADIENT * largest) / moved
            found.append(_difference(place, error / moved, allowed))
    return tuple(found)


def _with_origins(
    training: TrainingInputs, step: Sequence[Deviation], forward: Mapping[str, str], missing: Collection[str]
) -> tuple[Deviation, ...]:
    """Return steps with the origin of every deviation: a node whose values differ, if there is one."""
    wrong = {*missing, *(difference.path for difference in step if not difference.agrees)}
    places: Mapping[str, str] = first_behind(training.network, wrong)
    if forward:
        earliest = next(node.path for node in training.network if node.path in set(forward.values()))
        places = dict.fromkeys(wrong, earliest)
    return tuple(
        replace(difference, origin=places.get(difference.path, difference.path))
        for difference in step
        if difference.path not in missing
    )


def _difference(place: Place, error: float, allowed: float) -> Deviation:
    path, _, role = place.source.rpartition(".")
    return Deviation(path=path, role=role, candidate_path=place.name, origin=path, error=error, allowed=allowed)


def _length(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.norm()) ** 2 for tensor in tensors))


def first_before(network: Network, wrong: Collection[str]) -> dict[str, str]:
    """Return, for every wrong node, the first wrong node upstream of it; itself if there is none."""
    return _first(wrong, [(node.path, node.inputs) for node in network])


def first_behind(network: Network, wrong: Collection[str]) -> dict[str, str]:
    """Return, for every wrong node, the last wrong node downstream of it; itself if there is none."""
    readers = network.readers()
    return _first(wrong, [(node.path, readers[node.path]) for node in reversed(network.nodes)])


def _first(wrong: Collection[str], order: list[tuple[str, tuple[str, ...]]]) -> dict[str, str]:
    """Return the first wrong node that reaches each wrong node, in an order of nodes with their predecessors."""
    position = {path: number for number, (path, _) in enumerate(order)}
    origins: dict[str, str] = {}
    found: dict[str, str] = {}
    for path, before in order:
        reached = [origins[other] for other in before if other in origins]
        if path in wrong:
            reached.append(path)
            found[path] = min(reached, key=position.__getitem__)
        if reached:
            origins[path] = min(reached, key=position.__getitem__)
    return found
