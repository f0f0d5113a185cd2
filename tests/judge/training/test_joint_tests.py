"""Initial values that depend on each other are refused by the test that is meant for them; independent ones are not."""

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.judge.finding import Decision, Verdict
from deeplab_spec.judge.load_weights import own_places
from deeplab_spec.judge.training.check_random import RATE, SPECIFIED, TESTS, chance_of_each, initialisation
from deeplab_spec.judge.training.evidence import Initial, Joint, Trained
from deeplab_spec.judge.training.initial_weights import NOT_DRAWN, sample_weights
from deeplab_spec.judge.training.joint_tests import standard
from deeplab_spec.reference.network import build
from deeplab_spec.spec.choices import Initialisation, choose
from deeplab_spec.spec.distributions import Distribution, Shape, initials
from deeplab_spec.spec.network import network, rows
from deeplab_spec.spec.variants import variant
from tests.support.members import XCEPTIONS

BLOCK = "backbone.middle_flow.block1"
FIRST = f"{BLOCK}.sepconv1.pointwise.conv"
CONV = f"{BLOCK}.sepconv2.pointwise.conv"
DEPTHWISE = f"{BLOCK}.sepconv2.depthwise.conv"
STEM = "backbone.entry_flow.stem.conv2.conv"
LARGE = "aspp.atrous1.conv"

Overrides = dict[str, Any]
Fault = Callable[[Tensor], None]
NORMAL: Overrides = {"width": 0.125, "middle_blocks": 2, "init": Initialisation.KAIMING_FAN_IN}


def drawn(seed: int = 0, name: str = "notebook", overrides: Overrides = NORMAL) -> nn.Module:
    """Build a narrow reference with a seed."""
    torch.manual_seed(seed)
    return build(name, 16, 21, overrides)


def sampled(
    module: nn.Module, again: nn.Module | None = None, name: str = "notebook", overrides: Overrides = NORMAL
) -> Initial:
    """Sample the weights of a module."""
    choices = choose(variant(name).choices, overrides)
    graph = network(choices, 16, 21)
    inits = {SPECIFIED: initials(rows(choices, 16, 21))}
    return sample_weights(graph, inits, own_places(graph), state_of(module), state_of(again) if again else None)


def decided(initial: Initial) -> Decision:
    """Decide whether weights are drawn as specified."""
    return initialisation(Trained(initial=initial))


def refused(initial: Initial, path: str) -> set[Joint]:
    """Return the joint tests that a tensor fails."""
    limit = math.log(chance_of_each(initial))
    return {test.test for test in initial.joint if test.path == path and test.log_chance < limit}


def _sorted_kernels(weight: Tensor) -> None:
    weight.copy_(weight.flatten(1).sort(1).values.view_as(weight))


def _sorted(weight: Tensor) -> None:
    weight.copy_(weight.flatten().sort().values.view_as(weight))


def _sorted_magnitudes(weight: Tensor) -> None:
    weight.copy_(weight.sign() * weight.abs().flatten().sort().values.view_as(weight))


def _one_sign_per_kernel(weight: Tensor) -> None:
    weight.copy_(weight.abs() * weight.sum((1, 2, 3), keepdim=True).sign())


def _without_mean(weight: Tensor) -> None:
    weight.sub_(weight.mean((1, 2, 3), keepdim=True))


def _of_equal_norms(weight: Tensor) -> None:
    scale = weight.square().mean().sqrt()
    weight.mul_(scale / weight.square().mean((1, 2, 3), keepdim=True).sqrt())


def _louder_and_louder(weight: Tensor) -> None:
    weight.mul_(torch.linspace(0.8, 1.18, weight.shape[1]).view(1, -1, 1, 1))


def _copied_outputs(weight: Tensor) -> None:
    weight[1::2] = weight[:-1:2]


def _negated_inputs(weight: Tensor) -> None:
    weight[:, 1::2] = -weight[:, :-1:2]


def _one_copied_output(weight: Tensor) -> None:
    weight[17] = weight[60] * weight[17].norm() / weight[60].norm()


def _mixed_outputs(weight: Tensor) -> None:
    weight.copy_((weight + weight.roll(7, 0)) * 0.5**0.5)


def _low_rank(weight: Tensor) -> None:
    count, rank = len(weight), len(weight) // 2
    scale = weight.std() / rank**0.5
    weight.copy_((scale * torch.randn(count, rank) @ torch.randn(rank, count))[..., None, None])


def _orthogonal(weight: Tensor) -> None:
    nn.init.orthogonal_(weight, gain=float(weight.std()) * len(weight) ** 0.5)


def _like_the_one_before(weight: Tensor) -> None:
    flat = weight.view(-1)
    for last in range(1, len(flat)):
        flat[last] = 0.2 * flat[last - 1] + 0.96**0.5 * flat[last]


def _alternating(weight: Tensor) -> None:
    flat = weight.view(-1)
    flat.copy_(flat.abs())[::2] *= -1


def _magnitudes_in_pairs(weight: Tensor) -> None:
    flat = weight.view(-1)
    flat[1::2][: len(flat) // 2] = flat[::2][: len(flat) // 2].abs() * flat[1::2].sign()


def _smooth(weight: Tensor) -> None:
    flat = weight.flatten(2)
    weight.copy_(((flat + flat.roll(1, 2)) * 0.5**0.5).view_as(weight))


def _mirrored(weight: Tensor) -> None:
    weight[..., 0] = weight[..., 2]


def _flat_kernels(weight: Tensor) -> None:
    weight[...] = weight[..., :1, :1]


def _tiled(weight: Tensor) -> None:
    flat = weight.view(-1)
    flat[len(flat) // 2 :] = flat[: len(flat) - len(flat) // 2].clone()


def _antithetic(weight: Tensor) -> None:
    flat, half = weight.view(-1), weight.numel() // 2
    flat[-half:] = -flat[:half][torch.randperm(half)]


def _symmetric(weight: Tensor) -> None:
    square = weight[..., 0, 0]
    weight.copy_((square.triu() + square.triu(1).T)[..., None, None])


def _stratified(weight: Tensor) -> None:
    places = (torch.arange(weight.numel(), dtype=torch.float64) + 0.25) / weight.numel()
    values = torch.special.ndtri(places) * (2 / weight.shape[1]) ** 0.5
    weight.copy_(values[torch.randperm(len(values))].view_as(weight))


@pytest.mark.parametrize(
    ("path", "fault", "test"),
    [
        (CONV, _sorted_kernels, Joint.SUMS),
        (DEPTHWISE, _sorted_kernels, Joint.SUMS),
        (STEM, _sorted_kernels, Joint.SUMS),
        (CONV, _sorted, Joint.SUMS),
        (CONV, _one_sign_per_kernel, Joint.SUMS),
        (CONV, _without_mean, Joint.SUMS),
        (CONV, _sorted_magnitudes, Joint.SIZES),
        (CONV, _of_equal_norms, Joint.SIZES),
        (CONV, _louder_and_louder, Joint.SIZES),
        (CONV, _copied_outputs, Joint.PAIR),
        (DEPTHWISE, _copied_outputs, Joint.PAIR),
        (CONV, _negated_inputs, Joint.PAIR),
        (CONV, _one_copied_output, Joint.PAIR),
        (LARGE, _smooth, Joint.PAIR),
        (DEPTHWISE, _smooth, Joint.SERIAL),
        (DEPTHWISE, _mirrored, Joint.PAIR),
        (STEM, _flat_kernels, Joint.PAIR),
        (CONV, _mixed_outputs, Joint.TOGETHER),
        (CONV, _low_rank, Joint.TOGETHER),
        (CONV, _orthogonal, Joint.TOGETHER),
        (CONV, _like_the_one_before, Joint.SERIAL),
        (CONV, _alternating, Joint.SERIAL),
        (CONV, _magnitudes_in_pairs, Joint.SERIAL_MAGNITUDES),
        (CONV, _tiled, Joint.REPEATED),
        (LARGE, _tiled, Joint.REPEATED),
        (CONV, _antithetic, Joint.REPEATED),
        (CONV, _symmetric, Joint.REPEATED),
        (CONV, _stratified, Joint.EVEN),
    ],
)
def test_values_that_depend_on_others_of_their_tensor_are_refused(path: str, fault: Fault, test: Joint) -> None:
    """By the test that is meant for them; at that tensor, and at no other."""
    module = drawn()
    with torch.no_grad():
        fault(module.get_parameter(f"{path}.weight"))

    initial = sampled(module)

    assert test in refused(initial, path), refused(initial, path)
    assert [(finding.path, finding.attribute) for finding in decided(initial).findings] == [(path, "initial weight")]


def _same(values: Tensor) -> Tensor:
    return values


def _negated(values: Tensor) -> Tensor:
    return -values


def _reversed(values: Tensor) -> Tensor:
    return values.flip(0)


def _mixed(values: Tensor) -> Tensor:
    return 0.8 * values + 0.6 * values.std() * torch.randn(len(values))


def _rolled(values: Tensor) -> Tensor:
    return values.roll(1000)


def _transposed(values: Tensor) -> Tensor:
    side = math.isqrt(len(values))
    return values.view(side, side).T.flatten()


def _shuffled(values: Tensor) -> Tensor:
    return values[torch.randperm(len(values))] * values.sign()


@pytest.mark.parametrize(
    ("share", "test"),
    [
        (_same, Joint.OTHER),
        (_negated, Joint.OTHER),
        (_reversed, Joint.OTHER),
        (_mixed, Joint.OTHER),
        (_rolled, Joint.OTHER_ORDER),
        (_transposed, Joint.OTHER_ORDER),
        (_shuffled, Joint.OTHER_ORDER),
    ],
)
def test_two_tensors_that_share_a_draw_are_refused(share: Callable[[Tensor], Tensor], test: Joint) -> None:
    """Also negated, mixed with another, and in another order; the second of them is named."""
    module = drawn()
    first, second = (module.get_parameter(f"{path}.weight") for path in (FIRST, CONV))
    with torch.no_grad():
        second.copy_(share(first.flatten()).view_as(second))

    initial = sampled(module)
    (finding,) = decided(initial).findings

    assert test in refused(initial, CONV)
    assert finding.path == CONV
    assert FIRST in str(finding.actual)


def test_tensors_of_other_sizes_and_scales_that_share_a_draw_are_refused() -> None:
    """As they do if a seed is set before each of them: each is named but the first."""
    module = drawn()
    paths = [FIRST, DEPTHWISE, CONV, LARGE]
    for path in paths:
        torch.manual_seed(7)
        nn.init.kaiming_normal_(module.get_parameter(f"{path}.weight"))

    findings = decided(sampled(module)).findings

    assert [finding.path for finding in findings] == paths[1:]
    assert all("those of" in str(finding.actual) for finding in findings)


def _with_noise(weight: Tensor) -> Tensor:
    return 0.8 * weight + 0.6 * weight.std() * torch.randn_like(weight)


def _half_fixed(weight: Tensor) -> Tensor:
    return weight.where(torch.arange(len(weight)).view(-1, 1, 1, 1) % 2 == 0, torch.randn_like(weight) * weight.std())


@pytest.mark.parametrize("change", [_with_noise, _half_fixed, _negated, Tensor.clone])
def test_a_tensor_that_is_not_drawn_anew_is_refused(change: Callable[[Tensor], Tensor]) -> None:
    """One of many that are: it is the same in another build, or correlates with what it was."""
    first, again = drawn(0), drawn(1)
    with torch.no_grad():
        weight = first.get_parameter(f"{LARGE}.weight")
        again.get_parameter(f"{LARGE}.weight").copy_(change(weight))

    (finding,) = decided(sampled(first, again)).findings

    assert finding.path == LARGE
    assert "build" in str(finding.actual)


def test_fixed_weights_are_undecided_and_the_reason_says_what_decides() -> None:
    """Whatever their distribution; but a constant is refused, wherever it is."""
    first = drawn()
    undecided = decided(sampled(first, drawn()))
    constant = drawn()
    with torch.no_grad():
        constant.get_parameter(f"{CONV}.weight").fill_(0.01)

    assert undecided.verdict is Verdict.UNDECIDED
    assert undecided.undecided == NOT_DRAWN
    assert "without pretrained weights" in NOT_DRAWN
    assert CONV in [finding.path for finding in decided(sampled(constant, constant)).findings]


RIGHT = [
    pytest.param(entry.name, init, id=f"{entry.name}-{init or 'its own'}")
    for entry in XCEPTIONS
    for init in (None, *Initialisation)
]


@pytest.mark.parametrize(("name", "init"), RIGHT)
def test_every_published_initialisation_is_drawn_independently(name: str, init: Initialisation | None) -> None:
    """Every variant, with every value of the choice; every convolution is tested."""
    overrides = {"width": 0.125, "middle_blocks": 2, **({} if init is None else {"init": init})}
    initial = sampled(*(drawn(seed, name, overrides) for seed in (0, 1)), name, overrides)

    assert decided(initial).verdict is Verdict.PASSED, decided(initial).findings
    assert {test.test for test in initial.joint} == set(Joint)
    convs = {sample.path for sample in initial.samples if sample.role == "weight" and "conv" in sample.path.split(".")}
    assert convs == {test.path for test in initial.joint if test.role == "weight"}


def test_the_probability_of_each_test_is_at_most_what_it_states() -> None:
    """Over many right networks: the part of results that are as unlikely as a tenth, a hundredth, a thousandth."""
    overrides = {"width": 0.03, "middle_blocks": 1}
    found: dict[Joint, list[float]] = defaultdict(list)
    modules = [drawn(seed, "tf-release", overrides) for seed in range(41)]
    for first, again in pairwise(modules):
        for test in sampled(first, again, "tf-release", overrides).joint:
            found[test.test].append(test.log_chance)

    assert set(found) == set(Joint)
    for test, chances in found.items():
        for chance in (0.1, 0.01, 0.001):
            part = sum(each <= math.log(chance) for each in chances) / len(chances)
            assert part <= chance + 4 * (chance / len(chances)) ** 0.5, (test, chance)
        assert min(chances) < math.log(0.05), test


def test_the_probabilities_of_all_tests_add_up_to_the_stated_rate() -> None:
    """Two-sided tests of every sample, and the joint ones."""
    initial = sampled(drawn(0), drawn(1))
    tests = 2 * TESTS * len(initial.samples) + len(initial.joint)

    assert len(initial.joint) > len(initial.samples)
    assert tests * chance_of_each(initial) <= RATE * (1 + 1e-9)
    assert RATE == 1e-9


@pytest.mark.parametrize("shape", [Shape.NORMAL, Shape.TRUNCATED, Shape.UNIFORM])
def test_values_are_mapped_to_standard_normal_ones(shape: Shape) -> None:
    """At the quantiles of each distribution; values outside stay finite."""
    quantiles = torch.tensor([0.01, 0.2, 0.5, 0.9], dtype=torch.float64)
    inside = math.erf(2**0.5) if shape is Shape.TRUNCATED else 1.0
    normal = torch.special.ndtri((1 - inside) / 2 + inside * quantiles)
    values = (2 * quantiles - 1 if shape is Shape.UNIFORM else normal) * 3

    mapped = standard(values.float(), Distribution(shape=shape, scale=3.0))

    torch.testing.assert_close(mapped.double(), torch.special.ndtri(quantiles), rtol=1e-5, atol=1e-6)
    assert standard(torch.tensor([9.0]), Distribution(shape=shape, scale=3.0)).isfinite().all()


def test_weights_below_float32_are_not_refused_for_equal_values() -> None:
    """A few thousand different values are often equal."""
    initial = sampled(drawn(0).bfloat16(), drawn(1).bfloat16())

    assert {test.test for test in initial.joint}.isdisjoint({Joint.REPEATED, Joint.EVEN, Joint.OTHER_ORDER})
    assert not [finding for finding in decided(initial).findings if finding.expected == "independent values"]


def test_values_that_are_no_numbers_blame_no_other_tensor() -> None:
    """They are refused where they are."""
    module = drawn()
    with torch.no_grad():
        module.get_parameter(f"{FIRST}.weight")[0] = math.nan
        module.get_parameter(f"{DEPTHWISE}.weight")[0] = math.inf

    assert {finding.path for finding in decided(sampled(module)).findings} == {FIRST, DEPTHWISE}
