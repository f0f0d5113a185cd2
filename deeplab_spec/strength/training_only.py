"""Judges mutants by their training alone: the graph is hidden, and only the names of their tensors are known."""

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from deeplab_spec.execute.module import NetworkModule
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.load_weights import own_places
from deeplab_spec.judge.plan import SpecifiedPlan
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.training.check import CHECKS_OF_TRAINING
from deeplab_spec.judge.training.evidence import Trained
from deeplab_spec.judge.training.initial_weights import sample_weights, specified_inits
from deeplab_spec.judge.training.observe import observe
from deeplab_spec.mutate.faults.training_faults import MutantModule, with_initial_fault
from deeplab_spec.mutate.mutant import Mutant
from deeplab_spec.reference.network import assemble
from deeplab_spec.spec.choices import Choices
from deeplab_spec.spec.clauses import CLAUSES, Level
from deeplab_spec.spec.network import rows


def by_training(planned: SpecifiedPlan, mutant: Mutant | None, seed: int) -> tuple[str, ...]:
    """Return the clauses of training that refuse a mutant.

    Args:
        planned: What it is held against.
        mutant: The mutant; None for the right network.
        seed: Seed of weights and images.
    """
    trained = _drawn(planned, mutant, seed) if mutant and mutant.has_initial_fault else _taught(planned, mutant, seed)
    decided = {name: check(trained) for name, check in CHECKS_OF_TRAINING.items()}
    ordered = [clause.id for clause in CLAUSES if clause.level is Level.TRAINING]
    return tuple(name for name in ordered if decided[name].verdict is Verdict.FAILED)


def _taught(planned: SpecifiedPlan, mutant: Mutant | None, seed: int) -> Trained:
    network = planned.network
    torch.manual_seed(seed)
    module = MutantModule(mutant) if mutant else NetworkModule(network)
    return observe(module.double(), network, own_places(network), seed=seed)


def _drawn(planned: SpecifiedPlan, mutant: Mutant, seed: int) -> Trained:
    """Look at the weights of a new network only, those of the mutated node: all the others are as specified."""
    name = f"{mutant.path}.weight"
    right = [weight_of(planned.request, planned.output_stride, seed + number, name) for number in (0, 1)]
    first, second = (with_initial_fault(weight, mutant, seed + number) for number, weight in enumerate(right))
    places = [place for place in own_places(planned.network) if place.name == name]
    initial = sample_weights(planned.network, specified_inits(planned), places, {name: first}, {name: second})
    return replace(Trained(), initial=initial)


def weight_of(request: Request, output_stride: int, seed: int, name: str) -> Tensor:
    """Return one weight of a new network."""
    module = _new(request.choices, output_stride, request.class_count, seed)
    return module.get_parameter(name).detach().clone()


@lru_cache(maxsize=2)
def _new(choices: Choices, output_stride: int, classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return assemble(rows(choices, output_stride, classes))
