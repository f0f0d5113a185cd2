"""Mutants and rewrites as modules, and the factories that build them by name in a candidate's process."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.execute.training import NetworkModule
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import BatchNorm, Dropout, Pair
from deeplab_spec.judge.plan import telling_sizes
from deeplab_spec.mutate.catalogue import mutant_of
from deeplab_spec.mutate.mutant import Mutant, TrainingFault
from deeplab_spec.mutate.rewrites.catalogue import Rewrite, rewrite
from deeplab_spec.mutate.rewrites.original import Original, published
from deeplab_spec.reference.network import assemble
from deeplab_spec.spec.api import Override, network
from deeplab_spec.spec.choices import choose, read_overrides
from deeplab_spec.spec.distributions import Distribution, Shape, distribution, initials
from deeplab_spec.spec.network import graph, rows
from deeplab_spec.spec.rows import NetworkRows
from deeplab_spec.spec.variants import variant as named


class MutantModule(NetworkModule):
    """A mutant as a module that has its training fault, unless that is in the initial weights."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.network)
        self.mutant = mutant

    def _step(self, node: Node, inputs: list[Tensor], tensors: dict[str, Tensor]) -> Tensor:
        path, fault = self.mutant.path, self.mutant.training_fault
        if node.path != path or not self.training:
            return super()._step(node, inputs, tensors)
        match fault, node.op:
            case TrainingFault.DETACHED, _:
                return super()._step(node, inputs, tensors).detach()
            case TrainingFault.FROZEN, BatchNorm() as op:
                mean, variance = tensors[f"{path}.running_mean"], tensors[f"{path}.running_var"]
                scale, offset = tensors.get(f"{path}.weight"), tensors.get(f"{path}.bias")
                return functional.batch_norm(inputs[0], mean, variance, scale, offset, training=False, eps=op.eps)
            case TrainingFault.BIASED, BatchNorm() as op:
                return _biased(path, op, inputs[0], tensors)
            case TrainingFault.CHANNELS, Dropout() as op:
                return functional.dropout2d(inputs[0], op.probability, training=True)
            case _:
                return super()._step(node, inputs, tensors)


def _biased(path: str, op: BatchNorm, x: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Normalise as in training, but track the biased variance of the batch, without Bessel's correction."""
    scale, offset = tensors.get(f"{path}.weight"), tensors.get(f"{path}.bias")
    variance, mean = torch.var_mean(x.detach(), dim=(0, 2, 3), correction=0)
    for role, statistic in (("running_mean", mean), ("running_var", variance)):
        tensors[f"{path}.{role}"].lerp_(statistic, op.momentum or 0.0)
    return functional.batch_norm(x, None, None, scale, offset, training=True, eps=op.eps)


def with_initial_fault(weight: Tensor, specified: Distribution, mutant: Mutant, seed: int) -> Tensor:
    """Return the initial weight of a convolution with a mutant's fault, from the weight as it is specified.

    Raises:
        ValueError: If the mutant's fault is not in the initial weights.
    """
    deviation = weight.std(correction=0)
    match mutant.training_fault:
        case TrainingFault.WIDE:
            return weight * 2
        case TrainingFault.FLAT:
            generator = torch.Generator().manual_seed(seed)
            if specified.shape is Shape.UNIFORM:
                return torch.randn(weight.shape, generator=generator) * deviation
            return (torch.rand(weight.shape, generator=generator) * 2 - 1) * deviation * 3**0.5
        case TrainingFault.SHIFTED:
            return weight + deviation
        case _:
            raise ValueError(mutant.training_fault)


MIDDLE_BLOCKS: Final = 2


def small(name: str) -> dict[str, Override]:
    """Return choices of a small network of a variant that every clause applies to: narrow, with few alike blocks."""
    short: dict[str, Override] = {**named(name).family.short}
    return {
        "width": 0.125,
        "results": "tensor",
        **short,
        **({"middle_blocks": MIDDLE_BLOCKS} if "middle_blocks" in short else {}),
    }


CLASSES: Final = 5


def original_of(one: Rewrite, directory: Path, choices: Mapping[str, Override] | None = None) -> Original:
    """Return the published network that a rewrite starts from, with random weights."""
    choices = small(one.variant) if choices is None else choices
    image = telling_sizes(network(one.variant, one.output_stride, CLASSES, choices), one.output_stride)[0]
    return published(one.variant, one.output_stride, CLASSES, choices, image, directory, seed=0)


def build_mutant(
    name: str, image: Pair, variant: str, output_stride: int, classes: int, width: float, overrides: tuple[str, ...]
) -> nn.Module:
    """Build a mutant, whose fault is not in the initial weights."""
    return MutantModule(mutant_of(graph(_table(variant, output_stride, classes, width, overrides)), image, name))


def build_with_initial_fault(
    name: str,
    image: Pair,
    variant: str,
    output_stride: int,
    classes: int,
    width: float,
    overrides: tuple[str, ...],
    drawn_width: float,
) -> nn.Module:
    """Build a published network whose initial weights have the fault of a mutant.

    The arguments are those of :func:`build_mutant`, and the width of the network that is built: statistics need more
    weights than the network of the mutant has.
    """
    mutant = mutant_of(graph(_table(variant, output_stride, classes, width, overrides)), image, name)
    table = _table(variant, output_stride, classes, drawn_width, overrides)
    module = assemble(table)
    weight = module.get_parameter(f"{mutant.path}.weight")
    specified = distribution(graph(table)[mutant.path].op, "weight", initials(table)[mutant.path])
    if specified is None:
        raise ValueError(mutant.path)
    with torch.no_grad():
        weight.copy_(with_initial_fault(weight, specified, mutant, torch.initial_seed()))
    return module


def _table(variant: str, output_stride: int, classes: int, width: float, overrides: tuple[str, ...]) -> NetworkRows:
    published = named(variant)
    different = read_overrides((f"width={width!r}", *overrides), published.family)
    return rows(choose(published.choices, different), output_stride, classes)


def build_rewrite(name: str) -> nn.Module | Path:
    """Build a rewrite that is a module."""
    one = rewrite(name)
    with TemporaryDirectory() as directory:
        return one.method.apply(original_of(one, Path(directory)))
