"""A published network with weights, as what is rewritten, and the module that computes parts of it in other ways."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from deeplab_spec.execute.interpreter import Values
from deeplab_spec.execute.module import NetworkModule
from deeplab_spec.execute.weights import roles
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Input, Op, Output, Pair
from deeplab_spec.reference.network import build
from deeplab_spec.spec.api import Override
from deeplab_spec.spec.api import network as specified

Tensors = Mapping[str, Tensor]
"""Tensors by path and role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network with weights.

    Attributes:
        variant: The published network.
        output_stride: Input pixels per pixel of the backbone's features.
        classes: Channels of the logits.
        choices: Decisions that differ from the variant's.
        image: Height and width of the images that a file of one size takes.
        directory: Where files are written.
        network: The graph.
        weights: Its tensors, in float32.
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
        """An image of the size of files."""
        return torch.randn(1, 3, *self.image, generator=torch.Generator().manual_seed(1))

    def module(self) -> nn.Module:
        """Return the graph as a module, with the weights."""
        return Rewritten(self)

    def reference(self) -> nn.Module:
        """Return the reference module, with the weights."""
        module = build(self.variant, self.output_stride, self.classes, self.choices)
        module.load_state_dict({**module.state_dict(), **self.weights})
        return module.eval()

    def with_network(self, network: Network, weights: Tensors | None = None) -> Self:
        """Return another graph, and weights of it, in the place of this."""
        return replace(self, network=network, weights=self.weights if weights is None else weights)

    def convs(self, wanted: Callable[[Conv2d], bool]) -> Iterator[tuple[Node, Conv2d]]:
        """Return the convolutions of some kind, in order."""
        for node in self.network:
            if isinstance(node.op, Conv2d) and wanted(node.op):
                yield node, node.op


def subject(
    variant: str,
    output_stride: int,
    classes: int,
    choices: Mapping[str, Override],
    image: Pair,
    directory: Path,
    seed: int = 0,
) -> Subject:
    """Return a published network with drawn weights, biases and statistics that differ by channel."""
    network = specified(variant, output_stride, classes, choices)
    return Subject(
        variant=variant,
        output_stride=output_stride,
        classes=classes,
        choices=choices,
        image=image,
        directory=directory,
        network=network,
        weights=drawn(network, seed),
    )


def drawn(network: Network, seed: int) -> dict[str, Tensor]:
    """Return weights of a network as training might leave them."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for node in network:
        for role, shape in roles(node.op).items():
            found[f"{node.path}.{role}"] = _drawn(node.op, role, shape, generator)
    return found


def _drawn(op: Op, role: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if isinstance(op, Conv2d) and role == "weight":
        return torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))
    spread = torch.rand(shape, generator=generator)
    positive = isinstance(op, BatchNorm) and role in {"weight", "running_var"}
    return spread + 0.5 if positive else spread - 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Another way to compute some nodes.

    Attributes:
        paths: The nodes; the last is what others read.
        run: Returns its value, of the values by path and of the tensors by path and role.
        held: The tensors that are held in the place of the nodes' own, by path and role; None for those.
    """

    paths: tuple[str, ...]
    run: Callable[[Tensors, Tensors], Tensor]
    held: Tensors | None = None


class Rewritten(NetworkModule):
    """A network of which some nodes are computed in other ways.

    Args:
        subject: The network, with its weights.
        forms: The other ways; each node in at most one.
    """

    def __init__(self, subject: Subject, *forms: Form) -> None:
        super().__init__(subject.network)
        self.load_state_dict(dict(subject.weights), strict=True)
        self.forms = {form.paths[-1]: form for form in forms}
        self.inner = {path for form in forms for path in form.paths[:-1]}
        for form in forms:
            if form.held is not None:
                self._hold_instead(form.paths, form.held)
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        """Run the network, as :class:`NetworkModule` does."""
        held = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        arriving = iter(inputs)
        values: Values = {}
        for node in self.network:
            if node.path in self.inner:
                continue
            if node.path in self.forms:
                values[node.path] = self.forms[node.path].run(values, held)
            elif isinstance(node.op, Input):
                values[node.path] = next(arriving)
            else:
                values[node.path] = self._step(node, [values[path] for path in node.inputs], held)
        results = {node.op.name: values[node.path] for node in self.network.outputs if isinstance(node.op, Output)}
        return results if len(results) > 1 else next(iter(results.values()))

    def _hold_instead(self, paths: tuple[str, ...], held: Tensors) -> None:
        for path in paths:
            for role in roles(self.network[path].op):
                delattr(self.get_submodule(path), role)
        for where, tensor in held.items():
            path, _, role = where.rpartition(".")
            self._register(Node(path=path, op=self.network[paths[-1]].op), role, tensor.clone())
