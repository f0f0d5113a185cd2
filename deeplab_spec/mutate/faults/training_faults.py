"""Faults in training that the graph does not show: in a training step, or in the initial weights."""

import torch
from torch import Tensor
from torch.nn import functional

from deeplab_spec.execute.module import NetworkModule
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import BatchNorm, Dropout
from deeplab_spec.mutate.mutant import Mutant, TrainingFault


class MutantModule(NetworkModule):
    """A mutant as a module that has its training fault.

    Args:
        mutant: The mutant; its fault is not in the initial weights.
    """

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


def with_initial_fault(weight: Tensor, mutant: Mutant, seed: int) -> Tensor:
    """Return the initial weight of a convolution with a mutant's fault.

    Args:
        weight: The weight as the specified network draws it.
        mutant: A mutant whose fault is in the initial weights.
        seed: Seed of a weight that is drawn again.

    Raises:
        ValueError: If the mutant's fault is not in the initial weights.
    """
    deviation = weight.std(correction=0)
    match mutant.training_fault:
        case TrainingFault.WIDE:
            return weight * 2
        case TrainingFault.FLAT:
            generator = torch.Generator().manual_seed(seed)
            return (torch.rand(weight.shape, generator=generator) * 2 - 1) * deviation * 3**0.5
        case TrainingFault.SHIFTED:
            return weight + deviation
        case _:
            raise ValueError(mutant.training_fault)
