"""Plants faults in the evidence of training: one for every clause, which its check must refuse."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from deeplab_spec.judge.evidence import Evidence, PlantedFault
from deeplab_spec.judge.training.check_random import SPECIFIED
from deeplab_spec.judge.training.evidence import BatchOfOne, Trained
from deeplab_spec.spec.distributions import Shape

_OTHER: Final = 2.0
"""Factor on the probability of a dropout, the deviation of a weight and the momentum of a statistic."""

_FAR: Final = 100.0
"""Factor on the largest accepted error."""


def of_training(trained: Trained) -> Iterator[PlantedFault]:
    """Plant a fault for every clause with evidence."""
    yield from _of_statistics(trained)
    yield from _of_gradients(trained)
    yield from _of_dropout(trained)
    yield from _of_weights(trained)
    if trained.batch_of_one and not trained.batch_of_one.not_applicable:
        refused = BatchOfOne(error="a planted fault")
        yield _planted_fault("BATCH-OF-ONE", "a batch of one that is refused", batch_of_one=refused)


def _of_statistics(trained: Trained) -> Iterator[PlantedFault]:
    stated = [movement for movement in trained.movements if movement.expected]
    if stated:
        last = stated[-1]
        momentum = _OTHER * (last.expected or 0.0)
        moved = replace(last, mean=momentum, variance=momentum)
        movements = tuple(moved if movement is last else movement for movement in trained.movements)
        words = f"momentum {momentum:g} of {last.path}"
        yield _planted_fault("BN-MOMENTUM", words, last.path, movements=movements)
    if trained.statistics:
        worst = replace(trained.statistics[-1], error=_FAR * trained.statistics[-1].allowed)
        statistics = (*trained.statistics[:-1], worst)
        words = f"a wrong {worst.role.replace('_', ' ')} of {worst.path}"
        yield _planted_fault("RUNNING-STATISTICS", words, worst.origin, statistics=statistics)


def _of_gradients(trained: Trained) -> Iterator[PlantedFault]:
    expected = [gradient for gradient in trained.gradients if gradient.expected_nonzero]
    if expected:
        lost = replace(expected[-1], actual=0.0, origin=expected[-1].path)
        gradients = tuple(lost if gradient is expected[-1] else gradient for gradient in trained.gradients)
        words = f"a {lost.role} of {lost.path} without a gradient"
        yield _planted_fault("GRADIENT-REACHES", words, lost.path, gradients=gradients)
    if trained.step:
        worst = replace(trained.step[-1], error=_FAR * trained.step[-1].allowed)
        step = (*trained.step[:-1], worst)
        words = f"another step of the {worst.role} of {worst.path}"
        yield _planted_fault("TRAIN-STEP", words, worst.origin, step=step)


def _of_dropout(trained: Trained) -> Iterator[PlantedFault]:
    effect = trained.dropout_effect
    if effect is None or not effect.stated:
        return
    if effect.expected:
        sites = tuple(replace(site, probability=min(_OTHER * site.probability, 0.9)) for site in effect.expected)
        words, faulty = f"a dropout of {sites[0].probability:g} at {sites[0].path}", replace(effect, actual=sites)
    else:
        varying = tuple(1.0 for _ in effect.candidate.get("spread", ()))
        words, faulty = "results that differ from call to call", replace(effect, candidate={"spread": varying})
    yield _planted_fault("DROPOUT", words, dropout_effect=faulty)


def _of_weights(trained: Trained) -> Iterator[PlantedFault]:
    samples = trained.initial.samples if trained.initial else ()
    random = [
        sample for sample in samples if sample.tensors == 1 and sample.fits[SPECIFIED][0].shape is not Shape.CONSTANT
    ]
    if trained.initial and random:
        wide = replace(random[-1], square=_OTHER**2 * random[-1].square, greatest=_OTHER * random[-1].greatest)
        others = tuple(wide if sample is random[-1] else sample for sample in samples)
        words = f"weights of {wide.path} of twice the deviation"
        yield _planted_fault("INITIALISATION", words, wide.path, initial=replace(trained.initial, samples=others))
    if trained.initial and trained.initial.planted:
        path = trained.initial.planted[0].path
        dependent = replace(trained.initial, joint=trained.initial.planted)
        words = f"weights of {path} that are the same for every output channel"
        yield _planted_fault("INITIALISATION", words, path, initial=dependent)


def _planted_fault(clause: str, words: str, path: str = "", **faulty: Any) -> PlantedFault:  # noqa: ANN401 - fields of the evidence
    def plant(evidence: Evidence) -> Evidence:
        return replace(evidence, trained=replace(evidence.trained, **faulty) if evidence.trained else None)

    return PlantedFault(clause=clause, fault=words, plant=plant, path=path)
