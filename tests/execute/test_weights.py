"""Drawn weights reveal faults: every kind of value occurs, and rounding stays small."""

import pytest
import torch
from torch import Tensor

from deeplab_spec.analysis.intervals import never_negative
from deeplab_spec.execute.interpreter import run
from deeplab_spec.execute.weights import Draw, challenge
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d, Input, roles
from deeplab_spec.spec.api import network
from tests.support.assertions import assert_same
from tests.support.graphs import chain
from tests.support.members import KINDS
from tests.support.strategies import NARROW

FEW_VALUES = 64

NAMES = [variant.name for variant in KINDS]


def narrow(variant: str) -> Network:
    """Return a narrow network at output stride 16."""
    return network(variant, 16, 5, {"width": NARROW})


def image(seed: int) -> dict[str, Tensor]:
    """Return a random image for which every map has statistics."""
    generator = torch.Generator().manual_seed(seed)
    return {"input": torch.randn(1, 3, 129, 114, generator=generator, dtype=torch.float64)}


@pytest.mark.parametrize("variant", NAMES)
def test_every_activation_sees_values_below_zero_between_and_above_six(variant: str) -> None:
    """A clipped, a leaky and a missing ReLU each differ from a ReLU on some of these only.

    A gate has one value per channel: at this width too few for some between 0 and 6 beside those far outside.
    """
    graph = narrow(variant)
    positive = never_negative(graph)
    _, values = challenge(graph, image(0), Draw.COVERAGE, 1)

    for node in graph:
        if isinstance(node.op, Activation):
            x = values[node.inputs[0]]
            kinds = {
                "below": bool((x < 0).any()),
                "between": bool(((x > 0) & (x < 6)).any()) or x.numel() < FEW_VALUES,
                "above": bool((x > 6).any()),
            }
            assert kinds == {"below": node.inputs[0] not in positive, "between": True, "above": True}, node.path


@pytest.mark.parametrize("variant", NAMES)
def test_every_normalisation_has_a_channel_that_shows_its_eps(variant: str) -> None:
    """If the variance is far above eps, another eps has no visible effect."""
    graph = narrow(variant)
    weights, _ = challenge(graph, image(0), Draw.COVERAGE, 0)

    for node in graph:
        if isinstance(node.op, BatchNorm):
            variance = weights[f"{node.path}.running_var"]
            assert bool((variance < 2 * node.op.eps).any()), node.path
            assert bool((variance > 0).all()), node.path


@pytest.mark.parametrize("variant", NAMES)
def test_kernels_are_asymmetric_and_some_scales_negative(variant: str) -> None:
    """A flipped kernel, and a scale taken as its absolute value, must show."""
    graph = narrow(variant)
    weights, _ = challenge(graph, image(0), Draw.COVERAGE, 0)

    for node in graph:
        if isinstance(node.op, Conv2d) and not node.op.pointwise:
            kernel = weights[f"{node.path}.weight"]
            for other in (kernel.flip(2), kernel.flip(3), kernel.transpose(2, 3)):
                assert not torch.equal(kernel, other), node.path
        elif isinstance(node.op, BatchNorm):
            assert bool((weights[f"{node.path}.weight"] < 0).any()), node.path


@pytest.mark.parametrize("variant", NAMES)
def test_damped_branches_amplify_rounding_less(variant: str) -> None:
    """An error of a branch is added to a skip that is ten times as large.

    Every weight is moved by up to half a unit in float32's last place, drawn here: what a processor rounds is luck.
    """
    graph = narrow(variant)
    generator = torch.Generator().manual_seed(2)
    unit = torch.finfo(torch.float32).eps / 2
    errors = {}
    for draw in Draw:
        weights, values = challenge(graph, image(1), draw, 1)
        moved = {
            name: tensor * (1 + unit * (2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 1))
            for name, tensor in weights.items()
        }
        result = run(graph, moved, {"input": values["input"]}, keep=())["output"]
        errors[draw] = float(torch.dist(result, values["output"]) / torch.linalg.vector_norm(values["output"]))

    assert errors[Draw.CONDITIONING] < errors[Draw.COVERAGE] / 3
    assert errors[Draw.CONDITIONING] < 1e-3


def test_values_neither_grow_nor_fade_over_the_depth() -> None:
    """The input of a normalisation has its running statistics."""
    graph = narrow("tf-release")
    _, values = challenge(graph, image(0), Draw.CONDITIONING, 0)

    for node in graph:
        if not isinstance(node.op, Input):
            assert 1e-3 < float(values[node.path].square().mean().sqrt()) < 1e3, node.path


def test_a_seed_decides_every_weight() -> None:
    """A certificate can be repeated; another seed gives other weights."""
    graph = narrow("notebook")
    first, values = challenge(graph, image(0), Draw.COVERAGE, 7)
    again, _ = challenge(graph, image(0), Draw.COVERAGE, 7)
    other, _ = challenge(graph, image(0), Draw.COVERAGE, 8)

    assert first.keys() == again.keys() == {f"{node.path}.{role}" for node in graph for role in roles(node.op)}
    assert not any(torch.equal(first[name], other[name]) for name in first)
    for name in first:
        assert_same(again[name], first[name], name)
    assert_same(run(graph, first, image(0))["output"], values["output"], "the value that came with the weights")


def test_draws_with_shared_kernels_differ_in_normalisations_only() -> None:
    """Normalisations decide the purpose of a draw; drawing kernels takes the longest."""
    graph = narrow("notebook")
    kernels, _ = challenge(graph, image(0), Draw.COVERAGE, 7)
    weights, values = challenge(graph, image(0), Draw.CONDITIONING, 8, kernels=kernels)
    convolutions = {f"{node.path}.{role}" for node in graph if isinstance(node.op, Conv2d) for role in roles(node.op)}

    same = {name for name in kernels if torch.equal(kernels[name], weights[name])}
    first = "backbone.entry_flow.stem.conv1.norm.running_mean"  # of the same kernel on the same image
    assert same == {*convolutions, first}
    assert kernels.keys() == weights.keys()
    assert_same(run(graph, weights, image(0))["output"], values["output"], "the value that came with the weights")


def test_a_map_without_statistics_still_has_values_of_every_kind() -> None:
    """A pixel of image pooling has no variance; its values still reveal faults."""
    channels = 40
    graph = chain(BatchNorm(channels=channels, eps=1e-3, momentum=0.1), Activation(), channels=channels)
    x = torch.randn(1, channels, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, values = challenge(graph, {"x": x}, Draw.COVERAGE, 0)

    assert values["n1"].min() < 0
    assert values["n1"].max() > 6


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_roles_are_the_tensors_of_pytorchs_layers(*, bias: bool, affine: bool) -> None:
    """The names and shapes of the framework's own layers."""
    conv = torch.nn.Conv2d(4, 6, (3, 1), groups=2, bias=bias)
    norm = torch.nn.BatchNorm2d(6, affine=affine)
    op = Conv2d(channels_in=4, channels_out=6, kernel=(3, 1), groups=2, bias=bias)

    assert roles(op) == {name: tuple(tensor.shape) for name, tensor in conv.state_dict().items()}
    state = {name: tuple(tensor.shape) for name, tensor in norm.state_dict().items() if tensor.ndim}
    assert roles(BatchNorm(channels=6, eps=1e-3, momentum=0.1, affine=affine)) == state
    assert roles(Activation()) == {}
