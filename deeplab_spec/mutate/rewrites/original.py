"""The published network that a rewrite starts from, and the module in which some of its nodes are replaced."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from deeplab_spec.execute.interpreter import Values
from deeplab_spec.execute.training import NetworkModule
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Op, Pair, roles
from deeplab_spec.reference.network import build
from deeplab_spec.spec.api import Override
from deeplab_spec.spec.api import network as specified

Tensors = Mapping[str, Tensor]
"""Tensors by path and role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A published network with weights.

    Attributes:
        variant: Name of the published network.
        output_stride: Input pixels per pixel of the backbone's features.
        classes: Number of classes: channels of the logits.
        choices: Choices that differ from the variant's.
        image: Height and width of the input of exported files, in pixels.
        directory: Folder for files.
        network: The graph.
        weights: The graph's tensors in float32.
    """

    variant: str
    output_stride: int
    classes: int
    choices: Mapping[str, Override]
    image: Pair
    directory: Path
    network: Network
    weights: Tensors

    @property
    def example(self) -> Tensor:
        """A random image for export: shape (1, 3, height, width)."""
        return torch.randn(1, 3, *self.image, generator=torch.Generator().manual_seed(1))

    def module(self) -> nn.Module:
        """Return the graph as a module, with the weights."""
        return RewrittenNetwork(self)

    def reference(self) -> nn.Module:
        """Return the reference module, with the weights."""
        module = build(self.variant, self.output_stride, self.classes, self.choices)
        module.load_state_dict({**module.state_dict(), **self.weights})
        return module.eval()

    def with_network(self, network: Network, weights: Tensors | None = None) -> Self:
        """Return the original with another graph, and other weights if given."""
        return replace(self, network=network, weights=self.weights if weights is None else weights)

    def convs(self, condition: Callable[[Conv2d], bool]) -> Iterator[tuple[Node, Conv2d]]:
        """Return the convolutions for which a condition holds, in order."""
        for node in self.network:
            if isinstance(node.op, Conv2d) and condition(node.op):
                yield node, node.op


def published(
    variant: str,
    output_stride: int,
    classes: int,
    choices: Mapping[str, Override],
    image: Pair,
    directory: Path,
    seed: int = 0,
) -> Original:
    """Return a published network with random weights; biases and statistics differ between channels."""
    network = specified(variant, output_stride, classes, choices)
    return Original(
        variant=variant,
        output_stride=output_stride,
        classes=classes,
        choices=choices,
        image=image,
        directory=directory,
        network=network,
        weights=random_weights(network, seed),
    )


def random_weights(network: Network, seed: int) -> dict[str, Tensor]:
    """Return random weights of a network, of the size that training might leave."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for node in network:
        for role, shape in roles(node.op).items():
            weights[f"{node.path}.{role}"] = _random(node.op, role, shape, generator)
    return weights


def _random(op: Op, role: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if isinstance(op, Conv2d) and role == "weight":
        return torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))
    spread = torch.rand(shape, generator=generator)
    positive = isinstance(op, BatchNorm) and role in {"weight", "running_var"}
    return spread + 0.5 if positive else spread - 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """Another computation of the value of a node, in place of this node and of nodes before it.

    Attributes:
        paths: The replaced nodes; the last is the one whose value is computed.
        run: Computes the value from the values by path and the module's tensors by path and role.
        parameters: Tensors that the module stores instead of the replaced nodes', by path and role; None to keep them.
    """

    paths: tuple[str, ...]
    run: Callable[[Tensors, Tensors], Tensor]
    parameters: Tensors | None = None


class RewrittenNetwork(NetworkModule):
    """A network in which some nodes are replaced.

    No node is in two replacements.
    """

    def __init__(self, original: Original, *replacements: Replacement) -> None:
        super().__init__(original.network)
        self.load_state_dict(dict(original.weights), strict=True)
        self.replacements = {each.paths[-1]: each for each in replacements}
        self.inner = {path for each in replacements for path in each.paths[:-1]}
        for each in replacements:
            if each.parameters is not None:
                self._store_instead(each.paths, each.parameters)
        self.eval()

    def _compute(self, node: Node, values: Values, weights: dict[str, Tensor]) -> None:
        if node.path in self.replacements:
            values[node.path] = self.replacements[node.path].run(values, weights)
        elif node.path not in self.inner:
            super()._compute(node, values, weights)

    def _store_instead(self, paths: tuple[str, ...], parameters: Tensors) -> None:
        for path in paths:
            for role in roles(self.network[path].op):
                delattr(self.get_submodule(path), role)
        for name, tensor in parameters.items():
            path, _, role = name.rpartition(".")
            self._register(Node(path=path, op=self.network[paths[-1]].op), role, tensor.clone())
