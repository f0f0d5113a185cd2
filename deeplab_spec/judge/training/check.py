"""Decides the clauses of training from the evidence of a candidate in training."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from deeplab_spec.align.differences import ABSENT
from deeplab_spec.judge.evidence import Check, Evidence
from deeplab_spec.judge.finding import Decision, Deviation, Finding
from deeplab_spec.judge.training.check_random import dropout, dropout_choices, finding, init_choice, initialisation
from deeplab_spec.judge.training.evidence import Movement, Trained
from deeplab_spec.spec.choices import ChoiceValue

CheckOfTraining = Callable[[Trained], Decision]
"""Decides one clause; the output stride of its findings is filled in later."""

_MOMENTA: Final = ("norm_momentum", "backbone_norm_momentum")


def momentum(trained: Trained) -> Decision:
    """Decide BN-MOMENTUM."""
    stated = [movement for movement in trained.movements if movement.expected is not None]
    if trained.movements and not stated:
        return Decision(not_applicable="the other network does not state the momentum")
    moved = [movement for movement in stated if _is_seen(trained, movement)]
    common = {choice for choice in _MOMENTA if common_momentum(trained.moved_by(choice)) is not None}
    findings = tuple(
        each.model_copy(update={"choice": choice}) if choice in common and not each.hint else each
        for movement in moved
        for choice in [trained.choice(movement.path)]
        for each in _moved(movement)
    )
    unplaced = sum(movement.mean is None or movement.variance is None for movement in stated)
    reason = f"the running statistics of {unplaced} normalisations have no place in it" if unplaced else ""
    if not trained.repeatable and len(moved) < len(stated):
        reason = trained.incomparable
    if trained.frozen and len(moved) < len(stated):
        reason = f"{trained.frozen[0]} uses its running statistics, which changes the inputs of others"
    return Decision(findings=findings, decisions=2 * len(moved), undecided=reason or trained.error)


def _is_seen(trained: Trained, movement: Movement) -> bool:
    """Tell whether the momentum of a normalisation was measured: its input must be the same in two calls."""
    if movement.mean is None or movement.variance is None or movement.path in trained.frozen:
        return False
    return (trained.repeatable and not trained.frozen) or not movement.spread


def _moved(movement: Movement) -> Iterator[Finding]:
    """Find a wrong momentum; one finding covers both statistics if they agree."""
    roles = {"running mean": movement.mean, "running variance": movement.variance}
    if movement.mean == movement.variance:
        roles = {"momentum": movement.mean}
    for name, value in roles.items():
        if value != movement.expected or movement.spread:
            attribute = name if name == "momentum" else f"momentum of the {name}"
            actual = f"different for every channel, about {value:g}" if movement.spread else value
            found = finding(movement.path, movement.candidate_path, attribute, movement.expected, actual)
            yield found.model_copy(update={"hint": _applied(movement, value)})


_MOST_TIMES: Final = 8


def _applied(movement: Movement, value: float | None) -> str:
    """Say how often the expected momentum was applied, if a measured one is that of several times; else nothing."""
    expected = movement.expected or 0.0
    for times in range(2, _MOST_TIMES + 1):
        if value is not None and 0 < expected < 1 and math.isclose(value, 1 - (1 - expected) ** times, abs_tol=1e-8):
            return f"{expected:g} applied {times} times in one step, as where values are computed {times} times"
    return ""


def common_momentum(trained: Trained) -> float | None:
    """Return the momentum of every normalisation; None if they have no common one."""
    seen = [movement for movement in trained.movements if _is_seen(trained, movement)]
    found = {value for movement in seen for value in (movement.mean, movement.variance) if value is not None}
    return found.pop() if len(found) == 1 and not any(movement.spread for movement in seen) else None


def running_statistics(trained: Trained) -> Decision:
    """Decide RUNNING-STATISTICS."""
    paths = {movement.path: movement.candidate_path for movement in trained.movements}
    frozen = tuple(
        finding(path, paths.get(path), "statistics in training", "those of the batch", "the running ones")
        for path in trained.frozen
    )
    others = [difference for difference in trained.statistics if difference.origin not in trained.frozen]
    differing = _differing(others, "after two known batches")
    return Decision(
        findings=(*frozen, *differing),
        decisions=len(trained.statistics) + len(frozen),
        undecided=trained.incomparable or trained.error,
    )


def gradient_reaches(trained: Trained) -> Decision:
    """Decide GRADIENT-REACHES."""
    findings: dict[str, Finding] = {}
    if trained.backward:
        findings["output"] = finding("output", None, "gradient", "a gradient of every parameter", trained.backward)
    for gradient in [] if trained.backward else trained.gradients:
        if gradient.reaches or gradient.path != gradient.origin:
            continue
        infinite = gradient.actual is not None and not math.isfinite(gradient.actual)
        actual = "not finite" if infinite else ABSENT if gradient.actual is None else "zero"
        actual += _others(trained, gradient.origin)
        expected = "finite, and not zero" if gradient.expected_nonzero else "finite"
        found = finding(gradient.origin, gradient.candidate_path, f"gradient of {gradient.role}", expected, actual)
        findings.setdefault(gradient.origin, found)
    return Decision(
        findings=tuple(findings.values()),
        decisions=len(trained.gradients) + len(findings) * bool(trained.backward),
        undecided=trained.error or ("" if trained.gradients else trained.incomparable),
    )


def _others(trained: Trained, origin: str) -> str:
    """Return how many more parameters before a node have no gradient."""
    missing = sum(not gradient.reaches and gradient.origin == origin for gradient in trained.gradients)
    return f"; so is that of {missing - 1} more" if missing > 1 else ""


def train_step(trained: Trained) -> Decision:
    """Decide TRAIN-STEP."""
    if trained.error:
        found = finding("input", None, "training", "results that can be differentiated", trained.error)
        return Decision(findings=(found,), decisions=1)
    return Decision(
        findings=_differing(list(trained.step), "after a step"),
        decisions=len(trained.step),
        undecided=trained.incomparable or trained.error,
    )


def _differing(differences: list[Deviation], when: str) -> tuple[Finding, ...]:
    """Find differences, one for each origin."""
    findings: dict[str, Finding] = {}
    for difference in sorted(differences, key=lambda entry: entry.path != entry.origin):
        if not difference.agrees and difference.origin not in findings:
            own = difference.candidate_path if difference.path == difference.origin else None
            attribute = f"{difference.role.replace('_', ' ')} {when}"
            expected, actual = f"relative error at most {difference.allowed:.2g}", f"{difference.error:.2g}"
            findings[difference.origin] = finding(difference.origin, own, attribute, expected, actual)
    return tuple(findings.values())


def batch_of_one(trained: Trained) -> Decision:
    """Decide BATCH-OF-ONE."""
    result = trained.batch_of_one
    if result is None:
        return Decision(undecided=trained.error)
    if result.not_applicable:
        return Decision(not_applicable=result.not_applicable)
    if not result.error and result.finite:
        return Decision(decisions=1)
    actual = result.error or "a result that is not finite"
    return Decision(
        findings=(finding("input", None, "batch of one in training", "a finite result", actual),), decisions=1
    )


CHECKS_OF_TRAINING: Final[dict[str, CheckOfTraining]] = {
    "BN-MOMENTUM": momentum,
    "RUNNING-STATISTICS": running_statistics,
    "DROPOUT": dropout,
    "INITIALISATION": initialisation,
    "GRADIENT-REACHES": gradient_reaches,
    "TRAIN-STEP": train_step,
    "BATCH-OF-ONE": batch_of_one,
}


def decide(clause: str, evidence: Evidence) -> Decision:
    """Decide one clause of training."""
    trained = evidence.trained
    if trained is None:
        return Decision(undecided=evidence.graph_reason or "it was not trained")
    if trained.not_applicable:
        return Decision(not_applicable=trained.not_applicable)
    decision = CHECKS_OF_TRAINING[clause](trained)
    stride = {"output_stride": evidence.output_stride}
    return replace(decision, findings=tuple(each.model_copy(update=stride) for each in decision.findings))


CHECKS: Final[dict[str, Check]] = {clause: partial(decide, clause) for clause in CHECKS_OF_TRAINING}


def choices_seen_in_training(trained: Trained) -> dict[str, ChoiceValue]:
    """Infer the choices that explain the training findings."""
    found: dict[str, ChoiceValue] = {}
    for choice in _MOMENTA:
        mine = trained.moved_by(choice)
        common = common_momentum(mine)
        if common is not None and 0 < common <= 1 and any(not each.hint for each in momentum(mine).findings):
            found[choice] = common
    if trained.dropout_effect and dropout(trained).findings:
        found |= dropout_choices(trained.dropout_effect)
    if trained.initial and initialisation(trained).findings:
        found |= init_choice(trained.initial)
    return found
