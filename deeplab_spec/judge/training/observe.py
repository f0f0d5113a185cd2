"""Observes a candidate in training: running statistics, gradients, a step of descent, dropout, a batch of one.

Nothing of the candidate's graph is needed: where its tensors are, is enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.errors import one_line
from deeplab_spec.execute.interpreter import run
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.execute.torch_settings import threads_for
from deeplab_spec.execute.training import gradients, starting_weights
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import BatchNorm
from deeplab_spec.judge.evidence import Misfit
from deeplab_spec.judge.load_weights import Place
from deeplab_spec.judge.outputs import Answer
from deeplab_spec.judge.training.candidate import Trainee
from deeplab_spec.judge.training.dropout_effect import noise, seen_only
from deeplab_spec.judge.training.evidence import Alone, Movement, Trained
from deeplab_spec.judge.training.inputs import IMAGES, Draw, First, Lesson, images_of
from deeplab_spec.judge.training.sgd_step import descend, differentiate, gradients_of

SAME: Final = 1e-9
"""Relative difference in float64 of what must be the same: results with other running statistics, or another
seed; the momentum of two channels. A momentum is written with four digits."""

EVALUATED: Final = 1e-6
"""Relative difference of two results in evaluation that is rounding: nothing normalises these weights."""

MISFIT: Final = "not every weight of the specification has a place, so the two cannot be run with the same weights"
OTHERWISE: Final = "its values differ from the specified ones already in evaluation"
RANDOM: Final = "its results differ from call to call in training although its dropout is inactive"


def observe(
    module: nn.Module,
    network: Network,
    places: Sequence[Place],
    *,
    misfits: Sequence[Misfit] = (),
    dropped: Sequence[str | None] = (),
    draw: Draw | None = None,
    seed: int = 0,
) -> Trained:
    """Train a candidate for two steps, and compare it with the oracle.

    Args:
        module: The candidate; its weights are lost, and it is left in evaluation, in float64.
        network: What it is held against.
        places: Where each tensor of the network goes.
        misfits: Tensors without a place; if there are any, values are not compared.
        dropped: The nodes of the network whose values the candidate's dropouts read, in order, where a graph of it
            says so; used where its values cannot be compared.
        draw: Draws the inputs; by default, images.
        seed: Seed of weights and images.
    """
    lesson = Lesson(
        network=network, weights=starting_weights(network, seed), draw=draw or images_of(network), seed=seed
    )
    try:
        trainee = Trainee(module, places)
    except Exception as error:  # noqa: BLE001 - foreign code may raise anything
        return Trained(error=one_line(error))
    try:
        return _observed(trainee, lesson, dropped, comparable=not misfits)
    finally:
        trainee.leave()


def _observed(trainee: Trainee, lesson: Lesson, dropped: Sequence[str | None], *, comparable: bool) -> Trained:
    before = trainee.buffers()
    first = _first(trainee, lesson, before, differentiable=comparable)
    if first.answer.error:
        return Trained(error=first.answer.error)
    lesson, calls = first.lesson, trainee.calls
    backward = differentiate(trainee, first) if comparable else ""
    found = replace(_moved(trainee, first, before), backward=backward)
    if not comparable:
        seen = seen_only(lesson.network, calls, dropped, MISFIT)
        alone = _alone(trainee, lesson)
        return replace(found, incomparable=found.incomparable or MISFIT, noise=seen, alone=alone)
    with threads_for(torch.float64):
        cotangents = {lesson.outputs[tap]: weight for tap, weight in lesson.cotangents().items()}
        batch, wanted = gradients(lesson.network, lesson.weights, lesson.named(lesson.batch(0)), cotangents)
    if not (found.incomparable or found.error):
        found = replace(found, gradients=gradients_of(trainee, lesson, wanted))
    if not (found.incomparable or found.error) and _evaluates_otherwise(trainee, lesson):
        found = replace(found, incomparable=OTHERWISE)
    elif not (found.incomparable or found.error):
        found = descend(trainee, first, found, batch, wanted)
    dropping = noise(trainee, lesson, calls, batch.values, repeatable=found.repeatable)
    return replace(found, noise=dropping, alone=_alone(trainee, lesson))


def _evaluates_otherwise(trainee: Trainee, lesson: Lesson) -> bool:
    """Tell whether the candidate computes something else already in evaluation: that is no matter of training."""
    inputs = [value[:1] for value in lesson.batch(0)]
    buffers = trainee.buffers()
    trainee.module.eval()
    trainee.load(lesson.weights)
    answer = trainee.call(inputs, lesson.taps(inputs), lesson.seed)
    trainee.module.train()
    trainee.restore(buffers)
    with torch.no_grad(), threads_for(torch.float64):
        values = run(lesson.network, lesson.weights, lesson.named(inputs), keep=set(lesson.outputs.values()))
    expected = Answer(results={tap: values[path] for tap, path in lesson.outputs.items()})
    return not answer.error and not _same(answer, expected, EVALUATED)


def _first(trainee: Trainee, lesson: Lesson, before: Mapping[str, Tensor], *, differentiable: bool) -> First:
    """Call the candidate on the first batch, of the first size that it takes."""
    refused: First | None = None
    for size in range(len(IMAGES)):
        lesson = replace(lesson, size=size)
        trainee.load(lesson.weights)
        trainee.restore(before)
        trainee.fill_running(0.0)
        inputs = lesson.batch(0)
        taps = lesson.taps(inputs)
        answer = trainee.call(inputs, taps, lesson.seed, differentiable=differentiable, keep=differentiable)
        missing = [tap for tap, _ in taps if tap not in answer.results]
        if not answer.error and missing:
            answer = Answer(results={}, error=f"it does not return {missing[0]} in training")
        first = First(lesson=lesson, answer=answer, moved=trainee.statistics(), after=trainee.buffers())
        if not answer.error:
            return first
        refused = refused or first
    return refused or first


def _moved(trainee: Trainee, first: First, before: Mapping[str, Tensor]) -> Trained:
    """Call the candidate again with running statistics of one: what they keep of it is one less the momentum."""
    again = _with_ones(trainee, first.lesson, before, 1)
    if again.error:
        return Trained(error=again.error)
    ones = trainee.statistics()
    norms = [node.path for node in first.lesson.network if isinstance(node.op, BatchNorm)]
    movements = tuple(_movement(trainee, first, path, ones) for path in norms)
    found = Trained(movements=movements)
    if _same(first.answer, again):
        return found
    if not _same(again, _with_ones(trainee, first.lesson, before, 2)):
        return replace(found, incomparable=RANDOM, repeatable=False)
    still = tuple(movement.path for movement in movements if movement.mean == movement.variance == 0)
    return replace(found, frozen=still or tuple(first.lesson.outputs.values())[:1])


def _with_ones(trainee: Trainee, lesson: Lesson, before: Mapping[str, Tensor], seed: int) -> Answer:
    trainee.restore(before)
    trainee.fill_running(1.0)
    inputs = lesson.batch(0)
    return trainee.call(inputs, lesson.taps(inputs), lesson.seed + seed)


def _same(left: Answer, right: Answer, allowed: float = SAME) -> bool:
    return left.results.keys() == right.results.keys() and all(
        relative_error(left.results[tap].detach(), right.results[tap].detach()) <= allowed for tap in left.results
    )


def _movement(trainee: Trainee, first: First, path: str, ones: Mapping[str, Tensor]) -> Movement:
    op = first.lesson.network[path].op
    expected = op.momentum if isinstance(op, BatchNorm) else None
    where = [f"{path}.{role}" for role in ("running_mean", "running_var")]
    kept = [1 - (ones[name] - first.moved[name]) if name in ones else None for name in where]
    mean, variance = (None if value is None else _settled(float(value.median()), expected) for value in kept)
    spread = max((float(value.max() - value.min()) for value in kept if value is not None), default=0.0)
    return Movement(
        path=path,
        candidate_path=next(
            (place.name.rpartition(".")[0] for place in trainee.running if place.source in where), None
        ),
        expected=expected,
        mean=mean,
        variance=variance,
        spread=spread if spread > SAME else 0.0,
    )


def _settled(momentum: float, expected: float | None) -> float:
    """Take rounding from what was measured."""
    if expected is not None and abs(momentum - expected) <= SAME:
        return expected
    return round(momentum, 9) + 0.0


def _alone(trainee: Trainee, lesson: Lesson) -> Alone:
    """Call the candidate on a batch of one, in float32."""
    inputs = lesson.small(1)
    sizes = lesson.shapes(inputs)
    single = [node.path for node in lesson.network if isinstance(node.op, BatchNorm) and sizes[node.path][1:] == (1, 1)]
    if single:
        return Alone(not_applicable=f"{single[0]} has a single value per channel in a batch of one")
    trainee.module.float()
    trainee.load(lesson.weights)
    answer = trainee.call(inputs, lesson.taps(inputs), lesson.seed)
    trainee.module.double()
    finite = all(bool(tensor.isfinite().all()) for tensor in answer.results.values())
    return Alone(error=answer.error or ("" if answer.results else "it returns no tensor"), finite=finite)
