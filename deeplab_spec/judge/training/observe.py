"""Observes a candidate in training: running statistics, gradients, an SGD step, dropout, a batch of one.

:func:`observe` does not need the candidate's graph, only where its tensors are stored.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.capture.candidate.module import ModuleCandidate
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import BatchNorm, Dropout, Pair
from deeplab_spec.judge.evidence import UnmatchedParameter
from deeplab_spec.judge.interface.observe import images
from deeplab_spec.judge.load_weights import UNMATCHED, Place
from deeplab_spec.judge.numerics.steps import Loaded
from deeplab_spec.judge.outputs import Answer
from deeplab_spec.judge.plan import Plan, SpecifiedPlan
from deeplab_spec.judge.structure.observe import Reading
from deeplab_spec.judge.training.candidate import (
    IMAGES,
    CandidateInTraining,
    FirstBatch,
    TrainingInputs,
    images_of,
)
from deeplab_spec.judge.training.dropout_effect import dropout_effect, dropout_of_itself, dropout_of_oracle
from deeplab_spec.judge.training.evidence import BatchOfOne, Initial, Movement, Trained
from deeplab_spec.judge.training.initial_weights import sample_weights, specified_inits
from deeplab_spec.judge.training.oracle import TrainingOracle, after_step, differentiated, evaluated
from deeplab_spec.judge.training.sgd_step import compare_steps, differentiate, gradients_of
from deeplab_spec.spec.choices import AS_HEAD

SAME: Final = 1e-9
"""Largest relative difference in float64 of equal numbers: results with other running statistics or another seed, and
the momentum of two channels."""

EVALUATED: Final = 1e-6
"""Largest relative difference of two results in evaluation that is rounding; these weights amplify it."""

DIFFERS: Final = "its values differ from the specified ones already in evaluation"
RANDOM: Final = "its results differ from call to call in training although its dropout is disabled"


def observe(
    module: ModuleCandidate,
    network: Network,
    places: Sequence[Place],
    *,
    unmatched: Sequence[UnmatchedParameter] = (),
    dropped: Sequence[str | None] = (),
    folded: Collection[str] = (),
    seed: int = 0,
    oracle: TrainingOracle | None = None,
) -> Trained:
    """Train a candidate for two steps, and compare it with the oracle.

    Args:
        module: The candidate; its weights are overwritten.
        network: The expected network.
        places: Where each tensor of the network is stored in the candidate.
        unmatched: Unmatched parameters; if there are any, values are not compared.
        dropped: The nodes of the network whose values are inputs of the candidate's dropouts, in order, if its graph
            shows them; used where its values do not show them.
        folded: The convolutions that hold a normalisation: what folds it may leave a parameter without gradients.
        seed: Seed of weights and images.
        oracle: What it is compared with, if it was begun before; by default, on images of one size.
    """
    with ThreadPoolExecutor(1) as beside:
        oracle = oracle or TrainingOracle(network, images_of(network), seed, beside, differentiable=not unmatched)
        return _with_oracle(CandidateInTraining(module, places, folded), oracle, dropped)


def _with_oracle(candidate: CandidateInTraining, oracle: TrainingOracle, dropped: Sequence[str | None]) -> Trained:
    """Train a candidate while the oracle runs; it is not run if the two cannot be compared."""
    training, before = oracle.training(), candidate.buffers()
    first = _first(candidate, training, before, differentiable=oracle.differentiable)
    if first.answer.error:
        return Trained(error=first.answer.error)
    training, calls = first.training, candidate.calls
    backward = differentiate(candidate, first) if oracle.differentiable else ""
    found = replace(_moved(candidate, first, before), backward=backward)
    if not oracle.differentiable:
        seen = dropout_of_itself(candidate, training, calls, dropped, UNMATCHED)
        single = _batch_of_one(candidate, training)
        return replace(found, incomparable=found.incomparable or UNMATCHED, dropout_effect=seen, batch_of_one=single)
    batch, oracle_gradients = oracle.result(differentiated, training)
    oracle_gradients = oracle_gradients | {name: torch.zeros_like(oracle_gradients[name]) for name in candidate.frozen}
    if not (found.incomparable or found.error):
        differs = _begin_evaluation(candidate, training, oracle)
        found = replace(found, gradients=gradients_of(candidate, training, oracle_gradients))
        candidate.reached = {}
        if differs():
            found = replace(found, incomparable=DIFFERS)
        else:
            if candidate.frozen:  # the step is another one
                second = after_step(training, oracle_gradients)
            else:
                second = oracle.result(after_step, training, oracle_gradients)
            found = compare_steps(candidate, first, found, (batch.statistics, second), oracle_gradients)
    candidate.reached = {}
    own = oracle.result(dropout_of_oracle, training)
    dropping = dropout_effect(candidate, training, calls, batch.values, dropped, own, repeatable=found.repeatable)
    return replace(found, dropout_effect=dropping, batch_of_one=_batch_of_one(candidate, training))


def _begin_evaluation(
    candidate: CandidateInTraining, training: TrainingInputs, oracle: TrainingOracle
) -> Callable[[], bool]:
    """Start a call in evaluation; return a function that tells whether its values differ from the oracle's.

    If they do, training cannot be compared.
    """
    inputs = [value[:1] for value in training.batch(0)]
    buffers = candidate.buffers()
    candidate.load(training.weights)
    waiting = candidate.begin(inputs, training.taps(inputs), training.seed, train=False)
    candidate.restore(buffers)

    def differs() -> bool:
        answer = waiting()
        return not answer.error and not _same(answer, oracle.result(evaluated, training), EVALUATED)

    return differs


def _first(
    candidate: CandidateInTraining, training: TrainingInputs, before: Mapping[str, Tensor], *, differentiable: bool
) -> FirstBatch:
    """Run the candidate on the first batch, at the first size that it accepts."""
    refused: FirstBatch | None = None
    for size in range(len(IMAGES)):
        training = replace(training, size=size)
        candidate.load(training.weights)
        candidate.restore(before)
        candidate.fill_running(0.0)
        inputs = training.batch(0)
        taps = training.taps(inputs)
        answer = candidate.call(inputs, taps, training.seed, differentiable=differentiable)
        missing = [tap for tap, _ in taps if tap not in answer.results]
        if not answer.error and missing:
            answer = Answer(results={}, error=f"it does not return {missing[0]} in training")
        first = FirstBatch(training=training, answer=answer, moved=candidate.statistics(), after=candidate.buffers())
        if not answer.error:
            return first
        refused = refused or first
    return refused or first


def _moved(candidate: CandidateInTraining, first: FirstBatch, before: Mapping[str, Tensor]) -> Trained:
    """Measure momenta: run the candidate again with running statistics of one; they keep one minus the momentum."""
    again = _with_ones(candidate, first.training, before, 1)
    if again.error:
        return Trained(error=again.error)
    ones = candidate.statistics()
    norms = [node.path for node in first.training.network if isinstance(node.op, BatchNorm)]
    movements = tuple(_movement(candidate, first, path, ones) for path in norms)
    found = Trained(movements=movements)
    if _same(first.answer, again):
        return found
    if not _same(again, _with_ones(candidate, first.training, before, 2)):
        return replace(found, incomparable=RANDOM, repeatable=False)
    still = tuple(movement.path for movement in movements if movement.mean == movement.variance == 0)
    return replace(found, frozen=still or tuple(first.training.outputs.values())[:1])


def _with_ones(
    candidate: CandidateInTraining, training: TrainingInputs, before: Mapping[str, Tensor], seed: int
) -> Answer:
    candidate.restore(before)
    candidate.fill_running(1.0)
    inputs = training.batch(0)
    return candidate.call(inputs, training.taps(inputs), training.seed + seed)


def _same(left: Answer, right: Answer, allowed: float = SAME) -> bool:
    return left.results.keys() == right.results.keys() and all(
        relative_error(left.results[tap].detach(), right.results[tap].detach()) <= allowed for tap in left.results
    )


def _movement(candidate: CandidateInTraining, first: FirstBatch, path: str, ones: Mapping[str, Tensor]) -> Movement:
    op = first.training.network[path].op
    expected = op.momentum if isinstance(op, BatchNorm) else None
    where = [f"{path}.{role}" for role in ("running_mean", "running_var")]
    kept = [1 - (ones[name] - first.moved[name]) if name in ones else None for name in where]
    mean, variance = (None if value is None else _settled(float(value.median()), expected) for value in kept)
    spread = max((float(value.max() - value.min()) for value in kept if value is not None), default=0.0)
    owners = (place.name.rpartition(".")[0] for place in candidate.running if place.source in where)
    return Movement(
        path=path,
        candidate_path=next(owners, None),
        expected=expected,
        mean=mean,
        variance=variance,
        spread=spread if spread > SAME else 0.0,
    )


def _settled(momentum: float, expected: float | None) -> float:
    """Remove rounding from a measured momentum."""
    if expected is not None and abs(momentum - expected) <= SAME:
        return expected
    return round(momentum, 9) + 0.0


def _batch_of_one(candidate: CandidateInTraining, training: TrainingInputs) -> BatchOfOne:
    """Run the candidate on a batch of one, in float32."""
    inputs = training.small(1)
    sizes = training.shapes(inputs)
    norms = [node.path for node in training.network if isinstance(node.op, BatchNorm)]
    single = [path for path in norms if sizes[path][1:] == (1, 1)]
    if single:
        return BatchOfOne(not_applicable=f"{single[0]} has a single value per channel in a batch of one")
    candidate.module.float()
    candidate.load(training.weights)
    answer = candidate.call(inputs, training.taps(inputs), training.seed)
    candidate.module.double()
    finite = all(bool(tensor.isfinite().all()) for tensor in answer.results.values())
    return BatchOfOne(error=answer.error or ("" if answer.results else "it returns no tensor"), finite=finite)


def untrainable(loaded: Loaded) -> str:
    """Return why a candidate cannot be trained; empty if it can."""
    if loaded.module.inference_only:
        return loaded.module.inference_only
    if loaded.reading.folded:
        return "its normalisations are folded into its convolutions, for inference only"
    return ""


def initial_weights(
    places: Sequence[Place], plan: SpecifiedPlan, built: Mapping[str, Tensor], again: Mapping[str, Tensor]
) -> Initial:
    """Sample the weights that a candidate was built with, beside those of a second build with another seed."""
    found = sample_weights(plan.network, specified_inits(plan), places, built, again)
    return replace(found, of_backbone="init" if plan.choices.backbone_init == AS_HEAD else "backbone_init")


def begin(loaded: Loaded, plan: Plan, beside: Executor) -> TrainingOracle | None:
    """Begin to compute what the training of a candidate is compared with; None if it cannot be trained."""
    if untrainable(loaded) or not isinstance(loaded.module, ModuleCandidate):
        return None

    def draw(image: Pair, batch: int, seed: int) -> list[Tensor]:
        return images(plan, plan.inputs_at(image), batch, torch.float64, seed)

    return TrainingOracle(loaded.expected, draw, plan.request.seed, beside, differentiable=not loaded.unmatched)


def train_candidate(loaded: Loaded, plan: Plan, first: Initial | None, oracle: TrainingOracle | None) -> Trained:
    """Train a candidate, whose weights are overwritten; the weights that it was built with were sampled first."""
    if oracle is None or not isinstance(loaded.module, ModuleCandidate):
        return Trained(not_applicable=untrainable(loaded))
    found = observe(
        loaded.module,
        loaded.expected,
        loaded.places,
        unmatched=loaded.unmatched,
        dropped=dropout_inputs(loaded.reading),
        folded=loaded.reading.folded_convs,
        seed=plan.request.seed,
        oracle=oracle,
    )
    if isinstance(plan, SpecifiedPlan):
        own = plan.choices.backbone_norm_momentum != AS_HEAD
        return replace(found, initial=first, of_backbone="backbone_norm_momentum" if own else "norm_momentum")
    effect = found.dropout_effect and replace(found.dropout_effect, stated=False)
    unstated = Initial(not_applicable="the other network does not state how weights are drawn")
    return replace(found, dropout_effect=effect, initial=unstated)


def dropout_inputs(reading: Reading) -> tuple[str | None, ...]:
    """Return the specification's nodes whose values are inputs of the dropouts in a candidate's graph, in order."""
    network = reading.capture.network
    back = {right: left for left, right in reading.alignment.partner.items()}

    def owner(path: str) -> str | None:
        while path not in back and network[path].inputs:
            path = network[path].inputs[0]
        return back.get(path)

    return tuple(owner(node.inputs[0]) for node in network if isinstance(node.op, Dropout) and node.op.probability > 0)
