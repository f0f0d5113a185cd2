"""The oracle of training: against hand computations, against modules, against finite differences."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.execute.training import (
    NetworkModule,
    gradients,
    parameter_names,
    starting_weights,
    train,
    updated_running,
)
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Dropout
from deeplab_spec.mutate.mutant import without
from deeplab_spec.spec.choices import choose
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import variant
from tests.support.assertions import assert_near, assert_same
from tests.support.candidates import WIDTH
from tests.support.graphs import chain
from tests.support.members import KINDS


def whole_numbers(*shape: int, seed: int = 0) -> Tensor:
    """Return whole numbers from -4 to 4, with which sums are exact."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, shape, generator=generator).double()


def test_a_normalisation_uses_the_statistics_of_the_batch() -> None:
    """By hand: values -1, -1 and 5, 5 have mean 2, variance 9, which eps makes 16, and an unbiased one of 12."""
    graph = chain(BatchNorm(channels=1, eps=7.0, momentum=0.25), channels=1)
    x = torch.tensor([[[[-1.0, 5.0]]], [[[5.0, -1.0]]]], dtype=torch.float64)
    weights = {"n1.weight": torch.tensor([2.0]).double(), "n1.bias": torch.tensor([1.0]).double()}

    batch = train(graph, weights, {"x": x})

    assert_same(batch.values["y"], 2 * (x - 2) / 4 + 1, "normalised")
    assert batch.statistics["n1.running_mean"].item() == 2.0
    assert_near(batch.statistics["n1.running_var"], torch.tensor([12.0]).double(), "unbiased variance", terms=4)


def test_running_statistics_follow_the_batch_by_the_momentum() -> None:
    """A quarter of the way from 4 to 8."""
    before, batch = torch.tensor([4.0, 0.0]), torch.tensor([8.0, 2.0])

    after = updated_running({"n.running_mean": before}, {"n.running_mean": batch}, {"n.running_mean": 0.25})

    assert after["n.running_mean"].tolist() == [5.0, 0.5]


def test_one_value_per_channel_has_no_statistics() -> None:
    """As in PyTorch."""
    graph = chain(BatchNorm(channels=4, eps=1e-3, momentum=0.1))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        train(graph, starting_weights(graph, 0), {"x": torch.zeros(1, 4, 1, 1, dtype=torch.float64)})


@pytest.mark.parametrize("rate", [(1, 1), (2, 3)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_a_depthwise_convolution_and_its_gradients_are_pytorchs(rate: tuple[int, int], stride: tuple[int, int]) -> None:
    """Whole numbers: the values and both gradients are equal bit for bit."""
    op = Conv2d(
        channels_in=3,
        channels_out=3,
        kernel=(3, 3),
        stride=stride,
        rate=rate,
        padding=(2, 2, 1, 1),
        groups=3,
        bias=True,
    )
    graph = chain(op, channels=3)
    x, weight, bias = whole_numbers(2, 3, 11, 10), whole_numbers(3, 1, 3, 3, seed=1), whole_numbers(3, seed=2)
    weights = {"n1.weight": weight, "n1.bias": bias}
    leaf, kernel = x.clone().requires_grad_(), weight.clone().requires_grad_()
    expected = functional.conv2d(leaf, kernel, bias, stride, (2, 1), rate, 3)
    cotangent = whole_numbers(*expected.shape, seed=3)
    expected.backward(cotangent)  # type: ignore[no-untyped-call]

    batch, grads = gradients(graph, weights, {"x": x}, {"y": cotangent})

    assert torch.equal(batch.values["y"], expected.detach())
    assert kernel.grad is not None
    assert torch.equal(grads["n1.weight"], kernel.grad)
    assert torch.equal(grads["n1.bias"], cotangent.sum(dim=(0, 2, 3)))
    x.requires_grad_()
    train(graph, weights, {"x": x}).values["y"].backward(cotangent)
    assert x.grad is not None
    assert leaf.grad is not None
    assert torch.equal(x.grad, leaf.grad)


def oracle(graph: Network) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return weights, an image and the weight of every element of the result."""
    weights = starting_weights(graph, 0)
    image = torch.randn(2, 3, 51, 67, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cotangent = torch.randn(2, 5, 51, 67, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return weights, image, cotangent


@pytest.mark.parametrize("name", [entry.name for entry in KINDS])
def test_a_network_trains_as_its_module_does(name: str) -> None:
    """Two witnesses of one graph: values, statistics and gradients agree to 1e-10."""
    family = variant(name).family
    graph = network(choose(variant(name).choices, {**family.short, "width": WIDTH}), 16, 5)
    graph = without(graph, [node.path for node in graph if isinstance(node.op, Dropout)])
    weights, image, cotangent = oracle(graph)
    module = NetworkModule(graph).double().train()
    module.load_state_dict(weights)

    batch, grads = gradients(graph, weights, {"input": image}, {"output": cotangent})
    result = module(image)
    (result * cotangent).sum().backward()

    torch.testing.assert_close(batch.values["output"], result.detach(), rtol=1e-10, atol=1e-10)
    largest = max(float(gradient.norm()) for gradient in grads.values())
    for path, parameter in module.named_parameters():
        assert parameter.grad is not None
        assert torch.dist(grads[path], parameter.grad) <= 1e-10 * max(float(grads[path].norm()), 1e-4 * largest), path
    norms = [node.path for node in graph if isinstance(node.op, BatchNorm)]
    momenta = {
        f"{node.path}.{role}": node.op.momentum or 0.0
        for node in graph
        if isinstance(node.op, BatchNorm)
        for role in ("running_mean", "running_var")
    }
    after = updated_running(weights, batch.statistics, momenta)
    state = module.state_dict()
    assert len(after) == 2 * len(norms)
    for path, expected in after.items():
        torch.testing.assert_close(state[path], expected, rtol=1e-10, atol=1e-12)


def test_a_gradient_is_the_slope_of_the_loss() -> None:
    """By finite differences, of one value of every parameter of a chain."""
    graph = chain(
        Conv2d(channels_in=4, channels_out=6, kernel=(3, 3), padding=(1, 1, 1, 1), bias=True),
        BatchNorm(channels=6, eps=1e-3, momentum=0.1),
        Conv2d(channels_in=6, channels_out=2, bias=True),
    )
    weights, x = starting_weights(graph, 0), whole_numbers(2, 4, 5, 6)
    cotangent = whole_numbers(2, 2, 5, 6, seed=1)

    def loss(weights: dict[str, Tensor]) -> float:
        return float((train(graph, weights, {"x": x}).values["y"] * cotangent).sum())

    _, grads = gradients(graph, weights, {"x": x}, {"y": cotangent})

    for name in parameter_names(graph):
        slope = []
        for step in (1e-4, -1e-4):
            moved = weights[name].clone()
            moved.view(-1)[0] += step
            slope.append(loss({**weights, name: moved}))
        estimate = (slope[0] - slope[1]) / 2e-4
        assert estimate == pytest.approx(float(grads[name].view(-1)[0]), rel=1e-5, abs=1e-5), name


def test_dropout_is_inactive_without_a_generator() -> None:
    """Kept values are scaled, so that the mean stays."""
    graph = chain(Dropout(probability=0.25))
    x = torch.ones(4, 4, 50, 50, dtype=torch.float64)

    quiet = train(graph, {}, {"x": x}).values["y"]
    dropped = train(graph, {}, {"x": x}, generator=torch.Generator().manual_seed(0)).values["y"]

    assert torch.equal(quiet, x)
    assert set(dropped.unique().tolist()) == {0.0, 1 / 0.75}
    assert float((dropped == 0).double().mean()) == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / x.numel()) ** 0.5)


def test_new_weights_are_the_same_for_a_seed_and_others_for_another() -> None:
    """A certificate can be repeated."""
    graph = chain(Conv2d(channels_in=4, channels_out=4, bias=True), BatchNorm(channels=4, eps=1e-3, momentum=0.1))
    first, again, other = (starting_weights(graph, seed) for seed in (0, 0, 1))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["n1.weight"], other["n1.weight"])
    assert first.keys() == nn.ParameterDict({}).keys() | dict(NetworkModule(graph).state_dict()).keys()
