"""A network as a module: the interpreter's values in evaluation, PyTorch's layers in training."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from deeplab_spec.errors import GraphError
from deeplab_spec.execute.interpreter import run
from deeplab_spec.execute.training import NetworkModule
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d, Dropout, Opaque, roles
from deeplab_spec.reference.network import build
from deeplab_spec.spec.api import network
from deeplab_spec.spec.network import part, rows
from deeplab_spec.spec.variants import variant
from tests.support.assertions import assert_same
from tests.support.graphs import chain, edited, narrow_network
from tests.support.members import CASES
from tests.support.strategies import NARROW
from tests.support.weights import randomise_norms, whole


@pytest.mark.parametrize("name", ["notebook", "tf-release"])
def test_in_evaluation_its_result_is_the_interpreters(name: str) -> None:
    """The two store tensors differently, and compute the same."""
    graph = narrow_network(variant(name).choices, 16)
    module = NetworkModule(graph).double().eval()
    image = torch.randn(1, 3, 33, 40, dtype=torch.float64)

    with torch.no_grad():
        result = module(image)
        values = run(graph, module.state_dict(), {graph.inputs[0].path: image}, keep=())

    assert_same(result, values[graph.outputs[0].path], name)


def test_tensors_are_named_by_path_and_role() -> None:
    """Weights by path and role are its state."""
    graph = narrow_network(variant("tf-release").choices, 8)

    state = NetworkModule(graph).state_dict()

    expected = {f"{node.path}.{role}": shape for node in graph for role, shape in roles(node.op).items()}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected


def test_in_training_it_is_pytorchs_layers() -> None:
    """Batch and running statistics, the dropout mask and the gradients."""
    graph = chain(
        Conv2d(channels_in=4, channels_out=6, kernel=(3, 3), bias=True),
        BatchNorm(channels=6, eps=1e-3, momentum=0.25),
        Activation(),
        Dropout(probability=0.4),
    )
    module = NetworkModule(graph).double().train()
    layers = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, 1e-3, 0.25), nn.ReLU(), nn.Dropout(0.4)).double()
    named = {"n1.weight": "0.weight", "n1.bias": "0.bias", "n2.weight": "1.weight", "n2.bias": "1.bias"}
    layers.load_state_dict({name: module.state_dict()[path] for path, name in named.items()}, strict=False)
    image = torch.randn(2, 4, 7, 8, dtype=torch.float64)

    results = []
    for subject in (module, layers):
        torch.manual_seed(3)
        results.append(subject(image))
        results[-1].square().sum().backward()

    assert_same(results[0], results[1], "result")
    expected = {**layers.state_dict(), **{f"{name}.grad": value.grad for name, value in layers.named_parameters()}}
    actual = {**module.state_dict(), **{f"{name}.grad": value.grad for name, value in module.named_parameters()}}
    for path, name in {**named, "n2.running_mean": "1.running_mean", "n2.running_var": "1.running_var"}.items():
        assert_same(actual[path], expected[name], path)
        assert actual.get(f"{path}.grad") is None or torch.equal(actual[f"{path}.grad"], expected[f"{name}.grad"])


def test_a_network_of_several_outputs_gives_them_by_name() -> None:
    """Like a part of the network."""
    table = rows(replace(variant("tf-release").choices, width=NARROW), 16, 5)
    module = NetworkModule(part(table, "backbone")).eval()

    assert set(module(torch.randn(1, 3, 33, 33))) == {"low_level", "backbone"}


def test_an_unknown_operation_is_refused() -> None:
    """Nothing could run it."""
    graph = edited(chain(Activation()), "n1", lambda node: [Node(path="n1", op=Opaque(target="?"), inputs=node.inputs)])

    with pytest.raises(GraphError, match="must be a known operation"):
        NetworkModule(graph)


@pytest.mark.parametrize(("variant", "output_stride"), CASES)
def test_the_interpreter_computes_what_the_modules_compute(variant: str, output_stride: int) -> None:
    """In float32 both call the same operators in the same order, so even rounding is the same."""
    module = randomise_norms(build(variant, output_stride, 3, {"width": NARROW}), 0).float()
    graph = network(variant, output_stride, 3, {"width": NARROW})
    image = whole((2, 3, 32, 48), 1).float()

    with torch.no_grad():
        expected = module.intermediate(image)  # type: ignore[operator]
    values = run(graph, module.state_dict(), {"input": image})

    for path in expected.keys() & values.keys():
        assert_same(values[path], expected[path], path)
    for name, path in graph.taps:
        assert_same(values[path], expected[name], name)
    assert len(expected.keys() & values.keys()) > 100


@pytest.mark.parametrize(("variant", "output_stride"), CASES)
def test_the_modules_have_exactly_the_tensors_of_the_graph(variant: str, output_stride: int) -> None:
    """Names and shapes of every weight follow from the graph alone."""
    state = build(variant, output_stride, 3, {"width": NARROW}).state_dict()
    graph = network(variant, output_stride, 3, {"width": NARROW})
    expected = {f"{node.path}.{role}": shape for node in graph for role, shape in roles(node.op).items()}

    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert {name: tuple(tensor.shape) for name, tensor in state.items() if name not in counters} == expected
