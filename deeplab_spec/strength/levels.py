"""Judges the mutants of one network, each level without the others.

The structure is decided on the graph, with nothing run. Numerics and training know the names of the tensors, but not
the graph. Faults that the graph does not show, in a training step or in the initial weights, are made here.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.capture.candidate.module import local
from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.execute.training import NetworkModule, initial_tensor
from deeplab_spec.execute.weights import Draw
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Dropout, Pair, roles
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.load_weights import own_places
from deeplab_spec.judge.numerics import end_to_end
from deeplab_spec.judge.plan import SpecifiedPlan, plan, telling_sizes
from deeplab_spec.judge.precision.run import cast
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.observe import decide_graph
from deeplab_spec.judge.training.check import CHECKS_OF_TRAINING
from deeplab_spec.judge.training.check_random import SPECIFIED
from deeplab_spec.judge.training.evidence import Trained
from deeplab_spec.judge.training.initial_weights import sample_weights, specified_inits
from deeplab_spec.judge.training.observe import observe
from deeplab_spec.mutate.catalogue import Catalogue, catalogue
from deeplab_spec.mutate.mutant import Mutant, Shows, TrainingFault
from deeplab_spec.precision import FLOAT32
from deeplab_spec.reference.network import assemble
from deeplab_spec.spec.choices import Choices
from deeplab_spec.spec.clauses import CLAUSES, Level
from deeplab_spec.spec.distributions import Distribution, Shape, distribution
from deeplab_spec.spec.network import rows
from deeplab_spec.strength.document import JudgedMutant, Lower


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


def with_initial_fault(weight: Tensor, specified: Distribution, mutant: Mutant, seed: int) -> Tensor:
    """Return the initial weight of a convolution with a mutant's fault.

    Args:
        weight: The weight as the specified network draws it.
        specified: The distribution that it is drawn from.
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
            if specified.shape is Shape.UNIFORM:
                return torch.randn(weight.shape, generator=generator) * deviation
            return (torch.rand(weight.shape, generator=generator) * 2 - 1) * deviation * 3**0.5
        case TrainingFault.SHIFTED:
            return weight + deviation
        case _:
            raise ValueError(mutant.training_fault)


SMALL: Final[tuple[Pair, ...]] = ((33, 50), (64, 96))
"""Small images of odd and even sides: most faults show in them; the others are judged on larger images."""

_FEW_WEIGHTS: Final = 512
"""A smaller kernel does not show whether it was drawn from another distribution of the same deviation."""

_WIDE: Final = 4.0
"""Width at which every kernel has enough weights."""

_RUN_ERRORS = (RuntimeError, IndexError, ValueError, KeyError)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network whose mutants are judged.

    Attributes:
        variant: Name of the published network.
        output_stride: Input pixels per pixel of the backbone's features.
        width: Factor on the number of channels.
        classes: Number of classes: channels of the logits.
        seed: Seed of images and weights.
        overrides: Choices that differ from the variant's, as ``NAME=VALUE``.
    """

    variant: str
    output_stride: int
    width: float
    classes: int = 5
    seed: int = 0
    overrides: tuple[str, ...] = ()
    _trials: dict[int, end_to_end.Trial] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the network in reports."""
        return f"{self.variant}@{self.output_stride}"

    @cached_property
    def plan(self) -> SpecifiedPlan:
        """The plan that every mutant is judged by."""
        return self.plan_at(self.width)

    def plan_at(self, width: float) -> SpecifiedPlan:
        """Return the plan at another width."""
        overrides = (f"width={width!r}", *self.overrides)
        request = Request(target=self.name, variant=self.variant, overrides=overrides, classes=self.classes)
        return plan(request, self.output_stride)

    @cached_property
    def image(self) -> Pair:
        """Height and width, in pixels, of the smallest image in which every fault shows."""
        return telling_sizes(self.plan.network, self.output_stride)[0]

    @cached_property
    def mutants(self) -> Catalogue:
        """All mutants."""
        return catalogue(self.plan.network, self.image)

    @cached_property
    def by_name(self) -> dict[str, Mutant]:
        """All mutants by name."""
        return {mutant.name: mutant for mutant in self.mutants.mutants}

    def judge(self, name: str, *, lower: bool) -> JudgedMutant:
        """Judge one mutant, each level without the others.

        Args:
            name: Name of the mutant.
            lower: Whether to judge it in precisions below float32 too.
        """
        mutant = self.by_name[name]
        record = JudgedMutant(
            subject=self.name,
            width=self.width,
            kind=mutant.kind,
            name=mutant.name,
            path=mutant.path,
            shows=mutant.shows,
            proof=mutant.proof,
        )
        if mutant.shows is Shows.TRAINING:
            planned = self._plan_of_initial_weights(mutant) if mutant.has_initial_fault else self.plan
            return record.model_copy(update={"training": by_training(planned, mutant, self.seed)})
        found = decide_graph(self.plan, mutant.network, self.image)
        first = found.first.path if found.first else None
        record = record.model_copy(
            update={"structure": found.failed, "first": first, "exact": first in mutant.paths if first else None}
        )
        if mutant.shows is Shows.NOWHERE:
            return record
        return record.model_copy(update=self._values(mutant, lower=lower))

    def _plan_of_initial_weights(self, mutant: Mutant) -> SpecifiedPlan:
        """Return the plan at full width, or wider for a small kernel: statistics need many weights."""
        full = self.plan_at(1.0)
        kernel = roles(full.network[mutant.path].op)["weight"]
        return full if math.prod(kernel) >= _FEW_WEIGHTS else self.plan_at(_WIDE)

    def _values(self, mutant: Mutant, *, lower: bool) -> dict[str, object]:
        """Judge the values of a mutant, with its graph hidden."""
        lost = end_to_end.unmatched_tensors(mutant.network, self.trial(0).weights)
        if lost:
            return {"numerics": ("WEIGHTS-FIT",), "unfit": lost[0]}
        worst, failed = 0.0, False
        for trial in self.trials():
            worst = max(worst, self._error(mutant, trial, torch.float64))
            failed = end_to_end.refused(worst)
            if failed:
                break
        names = end_to_end.CAST if lower else (FLOAT32.name,)
        tried = {name: self._lower(mutant, end_to_end.CAST[name]) for name in names}
        return {
            "numerics": ("VALUES-END-TO-END",) if failed else (),
            "error": worst,
            "lower": {name: found for name, found in tried.items() if found is not None},
        }

    def _lower(self, mutant: Mutant, dtype: torch.dtype) -> Lower | None:
        """Compare a mutant's error in a dtype with the specification's own.

        Returns:
            None if the specification is not finite in any trial: then the dtype decides nothing.
        """
        ratios: list[float] = []
        for trial in self.trials():
            own = trial.own_error(dtype)
            if own is None:
                continue
            ratios.append(self._error(mutant, trial, dtype) / own)
            if end_to_end.refused_in(ratios[-1], 1.0):
                return Lower(ratio=max(ratios), killed=True)
        return Lower(ratio=max(ratios), killed=False) if ratios else None

    def trials(self) -> Iterator[end_to_end.Trial]:
        """Return the trials that mutants are judged with: images and weights, the cheapest first."""
        for number in range(2 * (len(SMALL) + 1)):
            yield self.trial(number)

    def trial(self, number: int) -> end_to_end.Trial:
        """Return one trial."""
        if number not in self._trials:
            image, draw = (*SMALL, self.image)[number // 2], tuple(Draw)[number % 2]
            self._trials[number] = end_to_end.trial(self.plan.network, image, draw, self.seed + number)
        return self._trials[number]

    def _error(self, mutant: Mutant, trial: end_to_end.Trial, dtype: torch.dtype) -> float:
        try:
            with torch.no_grad():
                result = _run(mutant.network, trial, dtype)
        except _RUN_ERRORS:
            return float("inf")  # it does not run at this size
        error = relative_error(result, trial.oracle)
        return error if error == error else float("inf")  # noqa: PLR0124 - not a number


def _run(network: Network, trial: end_to_end.Trial, dtype: torch.dtype) -> Tensor:
    """Run a mutant; nodes before its fault have the specification's values, which are not computed again."""
    known, same = trial.values_in(dtype), set(trial.inputs)
    weights = {**cast(trial.weights, dtype), **cast(_extra(network, trial), dtype)}
    values: Values = cast(trial.inputs, dtype)
    for node in network:
        if node.path in values:
            continue
        if node.path in trial.network and trial.network[node.path] == node and same.issuperset(node.inputs):
            same.add(node.path)
            values[node.path] = known[node.path]
        else:
            values[node.path] = step(node, [values[path] for path in node.inputs], weights)
    return values[network.outputs[0].path]


def _extra(network: Network, trial: end_to_end.Trial) -> dict[str, Tensor]:
    """Return initial tensors for the parameters that only the mutant has."""
    return {
        name: initial_tensor(node, role, shape, torch.Generator().manual_seed(zlib.crc32(name.encode()))).double()
        for node in network
        for role, shape in roles(node.op).items()
        if (name := f"{node.path}.{role}") not in trial.weights
    }


def by_training(planned: SpecifiedPlan, mutant: Mutant, seed: int) -> tuple[str, ...]:
    """Return the clauses of training that refuse a mutant.

    Args:
        planned: The plan that the mutant is judged by.
        mutant: The mutant.
        seed: Seed of weights and images.
    """
    trained = _initialise(planned, mutant, seed) if mutant.has_initial_fault else _train(planned, mutant, seed)
    decided = {name: check(trained) for name, check in CHECKS_OF_TRAINING.items()}
    ordered = [clause.id for clause in CLAUSES if clause.level is Level.TRAINING]
    return tuple(name for name in ordered if decided[name].verdict is Verdict.FAILED)


def _train(planned: SpecifiedPlan, mutant: Mutant, seed: int) -> Trained:
    network = planned.network
    torch.manual_seed(seed)
    return observe(local(MutantModule(mutant).double()), network, own_places(network), seed=seed)


def _initialise(planned: SpecifiedPlan, mutant: Mutant, seed: int) -> Trained:
    """Observe the initial weights of the mutated node only; all others are as specified."""
    name = f"{mutant.path}.weight"
    drawn = [weight_of(planned.request, planned.output_stride, seed + number, name) for number in (0, 1)]
    inits = specified_inits(planned)
    specified = distribution(planned.network[mutant.path].op, "weight", inits[SPECIFIED][mutant.path])
    if specified is None:
        raise ValueError(mutant.path)
    first, second = (
        with_initial_fault(weight, specified, mutant, seed + number) for number, weight in enumerate(drawn)
    )
    places = [place for place in own_places(planned.network) if place.name == name]
    initial = sample_weights(planned.network, inits, places, {name: first}, {name: second})
    return replace(Trained(), initial=initial)


def weight_of(request: Request, output_stride: int, seed: int, name: str) -> Tensor:
    """Return one weight of a network with initial weights."""
    module = _new(request.choices, output_stride, request.class_count, seed)
    return module.get_parameter(name).detach().clone()


@lru_cache(maxsize=2)
def _new(choices: Choices, output_stride: int, classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return assemble(rows(choices, output_stride, classes))
