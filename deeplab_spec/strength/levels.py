"""Judges the mutants of one network, each level without the others.

The structure is decided on the graph. Numerics and training know the names of the tensors, but not the graph.
"""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import torch

from deeplab_spec.capture.candidate.connection import ProcessConnection
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.execute.weights import Draw
from deeplab_spec.graph.ops import Pair, roles
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.load_weights import own_places
from deeplab_spec.judge.numerics import end_to_end
from deeplab_spec.judge.plan import SpecifiedPlan, plan, telling_sizes
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.training.check import CHECKS_OF_TRAINING
from deeplab_spec.judge.training.evidence import Trained
from deeplab_spec.judge.training.initial_weights import sample_weights, specified_inits
from deeplab_spec.judge.training.observe import observe
from deeplab_spec.mutate.catalogue import Catalogue, catalogue
from deeplab_spec.mutate.mutant import Mutant, Shows
from deeplab_spec.precision import FLOAT32
from deeplab_spec.spec.clauses import CLAUSES, Level
from deeplab_spec.strength.document import JudgedMutant, Lower
from deeplab_spec.strength.running import AsCandidate, AsGraph, Running

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
        isolated: Whether mutants run in a candidate's process.
    """

    variant: str
    output_stride: int
    width: float
    classes: int = 5
    seed: int = 0
    overrides: tuple[str, ...] = ()
    isolated: bool = False
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

    @cached_property
    def connection(self) -> ProcessConnection:
        """The process of the mutants, if they run in one."""
        return ProcessConnection()

    def running(self, mutant: Mutant) -> Running:
        """Return a mutant that can be judged."""
        if not self.isolated:
            return AsGraph(mutant, self.plan, self.image, self.seed)
        subject = {
            "variant": self.variant,
            "output_stride": self.output_stride,
            "classes": self.classes,
            "width": self.width,
            "overrides": self.overrides,
        }
        return AsCandidate(mutant, self.plan, self.image, self.seed, self.connection, subject)

    def judge(self, name: str, *, lower: bool) -> JudgedMutant:
        """Judge one mutant, each level without the others, in the lower precisions only where asked."""
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
        with closing(self.running(mutant)) as running:
            if mutant.shows is Shows.TRAINING:
                return record.model_copy(update={"training": self._training(running)})
            found = running.decided()
            first = found.first.path if found.first else None
            exact = first in mutant.paths if first else None
            record = record.model_copy(update={"structure": found.failed, "first": first, "exact": exact})
            if mutant.shows is Shows.NOWHERE:
                return record
            return record.model_copy(update=self._values(running, lower=lower))

    def _training(self, running: Running) -> tuple[str, ...]:
        """Return the clauses of training that refuse a mutant."""
        trained = self._initialise(running) if running.mutant.has_initial_fault else self._train(running)
        decided = {name: check(trained) for name, check in CHECKS_OF_TRAINING.items()}
        ordered = [clause.id for clause in CLAUSES if clause.level is Level.TRAINING]
        return tuple(name for name in ordered if decided[name].verdict is Verdict.FAILED)

    def _train(self, running: Running) -> Trained:
        network = self.plan.network
        return observe(running.trainable(), network, own_places(network), seed=self.seed)

    def _initialise(self, running: Running) -> Trained:
        """Observe the initial weights of the mutated node only; all others are as specified."""
        planned = self._plan_of_initial_weights(running.mutant)
        name = f"{running.mutant.path}.weight"
        places = [place for place in own_places(planned.network) if place.name == name]
        first, second = running.kernels(planned)
        inits = specified_inits(planned)
        initial = sample_weights(planned.network, inits, places, {name: first}, {name: second})
        return replace(Trained(), initial=initial)

    def _plan_of_initial_weights(self, mutant: Mutant) -> SpecifiedPlan:
        """Return the plan at full width, or wider for a small kernel: statistics need many weights."""
        full = self.plan_at(1.0)
        kernel = roles(full.network[mutant.path].op)["weight"]
        return full if math.prod(kernel) >= _FEW_WEIGHTS else self.plan_at(_WIDE)

    def _values(self, running: Running, *, lower: bool) -> dict[str, object]:
        """Judge the values of a mutant, with its graph hidden."""
        lost = running.unmatched(self.trial(0).weights)
        if lost:
            return {"numerics": ("WEIGHTS-FIT",), "unfit": lost[0]}
        worst, failed = 0.0, False
        for trial in self.trials():
            worst = max(worst, self._error(running, trial, torch.float64))
            failed = end_to_end.refused(worst)
            if failed:
                break
        names = end_to_end.CAST if lower else (FLOAT32.name,)
        tried = {name: self._lower(running, end_to_end.CAST[name]) for name in names}
        return {
            "numerics": ("VALUES-END-TO-END",) if failed else (),
            "error": worst,
            "lower": {name: found for name, found in tried.items() if found is not None},
        }

    def _lower(self, running: Running, dtype: torch.dtype) -> Lower | None:
        """Compare a mutant's error in a dtype with the specification's own; None if that is finite in no trial."""
        ratios: list[float] = []
        for trial in self.trials():
            own = trial.own_error(dtype)
            if own is None:
                continue
            ratios.append(self._error(running, trial, dtype) / own)
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

    def _error(self, running: Running, trial: end_to_end.Trial, dtype: torch.dtype) -> float:
        try:
            with torch.no_grad():
                result = running.output(trial, dtype)
        except _RUN_ERRORS:
            return float("inf")  # it does not run at this size
        error = relative_error(result, trial.oracle)
        return error if error == error else float("inf")  # noqa: PLR0124 - not a number
