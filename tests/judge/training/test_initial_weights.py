"""Weights drawn as specified are accepted, weights drawn otherwise refused, each tensor by itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deeplab_spec
from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.judge.finding import Decision, RunVerdict, Verdict
from deeplab_spec.judge.load_weights import own_places
from deeplab_spec.judge.training.check_random import RATE, SPECIFIED, init_choice, initialisation
from deeplab_spec.judge.training.evidence import Initial, Trained
from deeplab_spec.judge.training.initial_weights import EXISTED, NOT_DRAWN, Inits, sample_weights
from deeplab_spec.reference.network import build
from deeplab_spec.result import ExitCode
from deeplab_spec.spec.choices import Choices, Initialisation, choose
from deeplab_spec.spec.distributions import initials
from deeplab_spec.spec.network import network, rows
from deeplab_spec.spec.variants import variant
from tests.support.members import XCEPTIONS

NARROW: dict[str, Any] = {"width": 0.125, "middle_blocks": 2}
CONV = "backbone.middle_flow.block1.sepconv2.pointwise.conv"


def choices_of(name: str) -> Choices:
    """Return the choices of a narrow variant."""
    return choose(variant(name).choices, NARROW)


def inits(name: str) -> Inits:
    """Return how every decision about initial weights draws them."""
    of: dict[str, Choices] = {SPECIFIED: choices_of(name)}
    of |= {value.value: choose(choices_of(name), {"init": value}) for value in Initialisation}
    return {key: initials(rows(choices, 16, 21)) for key, choices in of.items()}


def drawn(name: str, seed: int = 0, **choices: Any) -> nn.Module:
    """Build a narrow reference."""
    torch.manual_seed(seed)
    return build(name, 16, 21, {**NARROW, **choices})


def taken(module: nn.Module, name: str, again: nn.Module | None = None) -> Initial:
    """Take samples of a module's weights."""
    graph = network(choices_of(name), 16, 21)
    return sample_weights(graph, inits(name), own_places(graph), state_of(module), state_of(again) if again else None)


def decided(module: nn.Module, name: str) -> Decision:
    """Decide whether a module was drawn as a variant is."""
    return initialisation(Trained(initial=taken(module, name)))


@pytest.mark.parametrize("name", [entry.name for entry in XCEPTIONS])
def test_the_reference_is_drawn_as_specified(name: str) -> None:
    """Every tensor, and all of a shape together."""
    initial = taken(drawn(name), name)
    decision = initialisation(Trained(initial=initial))

    assert decision.verdict is Verdict.PASSED, decision.findings
    assert decision.decisions == len(initial.samples)
    assert {sample.path for sample in initial.samples if sample.tensors == 1} == {
        source.rpartition(".")[0]
        for source in (place.source for place in own_places(network(choices_of(name), 16, 21)))
    }
    assert any(sample.tensors > 1 for sample in initial.samples)


@pytest.mark.deep
@pytest.mark.parametrize("name", [entry.name for entry in XCEPTIONS])
def test_no_right_draw_of_many_is_refused(name: str) -> None:
    """The stated rate is one in a billion; a hundred are drawn."""
    refused = [seed for seed in range(100) if decided(drawn(name, seed), name).findings]

    assert refused == []
    assert RATE == 1e-9


@pytest.mark.parametrize("value", list(Initialisation))
@pytest.mark.parametrize("name", ["notebook", "tf-release"])
def test_another_decision_is_named(name: str, value: Initialisation) -> None:
    """It explains every tensor, and no other decision does."""
    initial = taken(drawn(name, init=value), name)
    decision = initialisation(Trained(initial=initial))

    if value is variant(name).choices.init:
        assert not decision.findings
        return
    assert {finding.choice for finding in decision.findings} == {"init"}
    assert init_choice(initial) == {"init": value}
    assert all(finding.hint in {f"as init={value}", ""} for finding in decision.findings)


def _half(weight: Tensor) -> None:
    weight.mul_(0.5)


def _normal(weight: Tensor) -> None:
    weight.normal_(std=0.0792)


def _uniform(weight: Tensor) -> None:
    weight.uniform_(-0.137, 0.137)


def _shifted(weight: Tensor) -> None:
    weight.add_(0.02)


def _two_values(weight: Tensor) -> None:
    weight.copy_(weight.sign() * 0.0792)


def _sparse(weight: Tensor) -> None:
    weight.view(-1)[::8] = 0.0


@pytest.mark.parametrize("fault", [_half, _normal, _uniform, _shifted, _two_values, _sparse])
def test_one_tensor_drawn_otherwise_is_found(fault: Callable[[Tensor], None]) -> None:
    """Of another scale, another mean, or another shape of the same scale."""
    module = drawn("tf-release")
    with torch.no_grad():
        fault(module.get_parameter(f"{CONV}.weight"))

    (finding,) = decided(module, "tf-release").findings

    assert (finding.path, finding.attribute) == (CONV, "initial weight")
    assert finding.expected == "truncated normal, deviation 0.0792"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aspp.projection.norm.weight", 0.0),
        ("aspp.projection.norm.bias", 1e-3),
        ("aspp.projection.norm.running_var", 0.0),
        ("decoder.logits.conv.bias", -2.0),
    ],
)
def test_one_value_that_must_be_another_is_found(name: str, value: float) -> None:
    """A new normalisation is the identity; the release's biases are zero."""
    module = drawn("tf-release")
    with torch.no_grad():
        state_of(module)[name].view(-1)[0] = value

    (finding,) = decided(module, "tf-release").findings

    path, _, role = name.rpartition(".")
    assert (finding.path, finding.attribute) == (path, f"initial {role.replace('_', ' ')}")


def test_tensors_that_are_too_small_to_decide_are_tested_together() -> None:
    """Every depthwise kernel of some tens of values is a tenth too large: no single one can show it."""
    choices = choose(choices_of("notebook"), {"width": 0.03, "middle_blocks": 16})
    graph = network(choices, 16, 21)
    module = drawn("notebook", width=0.03, middle_blocks=16)
    with torch.no_grad():
        for path, parameter in module.named_parameters():
            if path.endswith("depthwise.conv.weight"):
                parameter.mul_(1.1)
    depthwise = [place for place in own_places(graph) if place.source.endswith("depthwise.conv.weight")]
    found = sample_weights(graph, {SPECIFIED: initials(rows(choices, 16, 21))}, depthwise, state_of(module), None)

    (finding,) = initialisation(Trained(initial=found)).findings

    assert finding.attribute == f"initial weight of {len(depthwise)} convolutions together"


def test_weights_that_are_equal_in_every_build_were_not_drawn() -> None:
    """A checkpoint, or a seed; they are not decided, and not passed."""
    first, again = drawn("notebook", 0), drawn("notebook", 0)
    with torch.no_grad():
        first.get_parameter(f"{CONV}.weight").mul_(3)
        again.get_parameter(f"{CONV}.weight").mul_(3)

    decision = initialisation(Trained(initial=taken(first, "notebook", again)))

    assert decision.verdict is Verdict.UNDECIDED
    assert "have the same weights" in decision.undecided
    other = initialisation(Trained(initial=taken(first, "notebook", drawn("notebook", 1))))
    assert [finding.path for finding in other.findings] == [CONV]


def test_a_builder_with_a_seed_is_inconclusive_and_a_module_is_not_applicable() -> None:
    """The first can be built otherwise, and the reason says so; of the second no build is seen."""

    def seeded() -> nn.Module:
        return drawn("notebook", 3)

    options: dict[str, Any] = {"choices": NARROW, "levels": ["training"]}
    built, module = (deeplab_spec.certify(target, "notebook", **options) for target in (seeded, seeded()))
    of_built, of_module = (
        next(clause for clause in each.clauses if clause.id == "INITIALISATION") for each in (built, module)
    )

    assert (built.verdict, built.exit_code) == (RunVerdict.INCONCLUSIVE, ExitCode.UNDECIDED)
    assert (of_built.verdict, of_built.reason) == (Verdict.UNDECIDED, NOT_DRAWN)
    assert module.verdict is RunVerdict.CONFORMS
    assert (of_module.verdict, of_module.reason) == (Verdict.NOT_APPLICABLE, EXISTED)


def test_a_sample_that_is_no_number_is_refused() -> None:
    """Whatever it is compared with."""
    initial = taken(drawn("notebook"), "notebook")
    nan = float("nan")
    broken = replace(initial.samples[0], mean=nan, square=nan, greatest=nan)

    assert initialisation(Trained(initial=Initial(samples=(broken,)))).verdict is Verdict.FAILED
