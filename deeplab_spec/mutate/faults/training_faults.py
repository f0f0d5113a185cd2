"""Wrong networks whose graph is right: what they do in training, and the weights that they start with."""

import torch
from torch import Tensor
from torch.nn import functional

from deeplab_spec.execute.module import NetworkModule
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import BatchNorm, Dropout
from deeplab_spec.mutate.mutant import Habit, Mutant

_INITIAL = frozenset({Habit.WIDE, Habit.FLAT, Habit.SHIFTED})


class MutantModule(NetworkModule):
    """A mutant as a module, with its habit.

    Args:
        mutant: The mutant; its habit is not one of the initial weights.
    """

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.network)
        self.fault = (mutant.path, mutant.habit)

    def _step(self, node: Node, inputs: list[Tensor], held: dict[str, Tensor]) -> Tensor:
        path, habit = self.fault
        if node.path != path or not self.training:
            return super()._step(node, inputs, held)
        match habit, node.op:
            case Habit.DETACHED, _:
                return super()._step(node, inputs, held).detach()
            case Habit.FROZEN, BatchNorm() as op:
                mean, variance = held[f"{path}.running_mean"], held[f"{path}.running_var"]
                scale, offset = held.get(f"{path}.weight"), held.get(f"{path}.bias")
                return functional.batch_norm(inputs[0], mean, variance, scale, offset, training=False, eps=op.eps)
            case Habit.BIASED, BatchNorm() as op:
                return _biased(path, op, inputs[0], held)
            case Habit.CHANNELS, Dropout() as op:
                return functional.dropout2d(inputs[0], op.probability, training=True)
            case _:
                return super()._step(node, inputs, held)


def _biased(path: str, op: BatchNorm, x: Tensor, held: dict[str, Tensor]) -> Tensor:
    """Normalise as in training, but follow the variance of the batch as it is, without Bessel's correction."""
    scale, offset = held.get(f"{path}.weight"), held.get(f"{path}.bias")
    variance, mean = torch.var_mean(x.detach(), dim=(0, 2, 3), correction=0)
    for role, statistic in (("running_mean", mean), ("running_var", variance)):
        held[f"{path}.{role}"].lerp_(statistic, op.momentum or 0.0)
    return functional.batch_norm(x, None, None, scale, offset, training=True, eps=op.eps)


def is_initial(habit: Habit | None) -> bool:
    """Tell whether a habit is one of the weights that a network starts with."""
    return habit in _INITIAL


def with_habit(weight: Tensor, mutant: Mutant, seed: int) -> Tensor:
    """Return the weight of a convolution as a mutant draws it, with the deviation of the right one.

    Args:
        weight: As it is drawn by the right network.
        mutant: A mutant whose habit is one of the initial weights.
        seed: Seed of what is drawn again.
    """
    deviation = weight.std(correction=0)
    match mutant.habit:
        case Habit.WIDE:
            return weight * 2
        case Habit.FLAT:
            generator = torch.Generator().manual_seed(seed)
            return (torch.rand(weight.shape, generator=generator) * 2 - 1) * deviation * 3**0.5
        case Habit.SHIFTED:
            return weight + deviation
        case _:
            raise ValueError(mutant.habit)
