"""Networks as modules with one layer per node, so that a tool's count by module is a count by node."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import torch
from jaxtyping import config
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.analysis.conventions import Convention, undivided_weight_gradients
from deeplab_spec.analysis.costs import Cost, evaluate, node_costs
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.execute.interpreter import step
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, ActivationKind, GlobalAveragePool, Input, Pair, roles
from tests.support.counters import ToolCount


class Layer(nn.Module):
    """One node with its own tensors; the interpreter computes it."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node
        for role, shape in roles(node.op).items():
            if role.startswith("running"):
                self.register_buffer(role, torch.ones(shape))
            else:
                self.register_parameter(role, nn.Parameter(torch.ones(shape)))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute the node, with the operators of modules rather than those of the interpreter."""
        match self.node.op:
            case GlobalAveragePool():
                return functional.adaptive_avg_pool2d(inputs[0], 1)
            case Activation(kind=ActivationKind.RELU6):
                return nn.ReLU6()(inputs[0])
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return step(self.node, list(inputs), {f"{self.node.path}.{role}": value for role, value in tensors.items()})


class Layers(nn.Module):
    """A network of one input and one output, each node a submodule."""

    def __init__(self, graph: Network) -> None:
        super().__init__()
        self.graph = graph
        for node in graph:
            if not isinstance(node.op, Input):
                self.add_module(module_name(node.path), Layer(node))

    def forward(self, image: Tensor) -> Tensor:
        """Compute every node in order."""
        values = {self.graph.inputs[0].path: image}
        for node in self.graph:
            if not isinstance(node.op, Input):
                layer = self.get_submodule(module_name(node.path))
                values[node.path] = layer(*(values[path] for path in node.inputs))
        return values[self.graph.outputs[0].path]


class Learned(nn.Module):
    """A layer behind a parameter, so that a gradient flows to the layer's input."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.layer = layer

    def forward(self, image: Tensor) -> Tensor:
        """Scale, and compute the layer."""
        value: Tensor = self.layer(image * self.scale)
        return value


def module_name(path: str) -> str:
    """Return a name that a submodule may have."""
    return path.replace(".", "__")


def by_node(count: ToolCount, graph: Network) -> dict[str, int]:
    """Return what a tool counted at every node of :class:`Layers`."""
    return {node.path: count.by_module.get(module_name(node.path), 0) for node in graph}


def costs_of(
    graph: Network, size: Pair, convention: Convention, mode: Mode = Mode.FORWARD, *, undivided: bool = False
) -> tuple[Cost, ...]:
    """Return the closed form's costs of every node."""
    costs = node_costs(graph, shapes(graph, size), convention, mode)
    if not undivided:
        return costs
    known = shapes(graph, size)
    return tuple(
        replace(cost, operations=cost.operations + evaluate(undivided_weight_gradients(graph[cost.path]), known))
        for cost in costs
    )


def operations(costs: tuple[Cost, ...]) -> dict[str, int | float]:
    """Return the operations by path."""
    return {cost.path: cost.operations for cost in costs}


@contextmanager
def normalisation_unseen() -> Iterator[None]:
    """Replace normalisations by an empty map of their input's shape.

    On the meta device it is by far the slowest layer, and FlopCounterMode does not count it.
    """
    with mock.patch.object(functional, "batch_norm", lambda image, *_, **__: torch.empty_like(image)):
        yield


@contextmanager
def shapes_unchecked() -> Iterator[None]:
    """Disable the checks of annotated shapes, which are tested elsewhere."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)  # noqa: FBT003 - the library's signature
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)
