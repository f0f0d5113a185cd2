"""Judges the mutants of one network, on each level alone."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.execute.module import initial_tensor
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.execute.weights import Draw, roles
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Pair
from deeplab_spec.judge.numerics import numerics_only as blind
from deeplab_spec.judge.plan import SpecifiedPlan, plan, telling_sizes
from deeplab_spec.judge.precision.run import cast
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.observe import decide_graph
from deeplab_spec.mutate.catalogue import Catalogue, catalogue
from deeplab_spec.mutate.mutant import Mutant, Shows
from deeplab_spec.precision import FLOAT32
from deeplab_spec.strength.document import Judged, Lower
from deeplab_spec.strength.training_only import by_training

SMALL: Final[tuple[Pair, ...]] = ((33, 50), (64, 96))
"""Cheap images, odd and even: most faults show in them, and what does not is judged on larger ones."""

_WRONG = (RuntimeError, IndexError, ValueError, KeyError)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network whose mutants are judged.

    Attributes:
        variant: The published network.
        output_stride: Its output stride.
        width: Its width.
        classes: Channels of the logits.
        seed: Seed of images and weights.
        overrides: Choices that differ from the variant's, as ``NAME=VALUE``.
    """

    variant: str
    output_stride: int
    width: float
    classes: int = 5
    seed: int = 0
    overrides: tuple[str, ...] = ()
    _drawn: dict[int, blind.Trial] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """How reports name it."""
        return f"{self.variant}@{self.output_stride}"

    @cached_property
    def planned(self) -> SpecifiedPlan:
        """What every mutant is held against."""
        return self.planned_at(self.width)

    def planned_at(self, width: float) -> SpecifiedPlan:
        """Return the same at another width: of few weights no statistics show how they were drawn."""
        overrides = (f"width={width!r}", *self.overrides)
        asked = Request(target=self.name, variant=self.variant, overrides=overrides, classes=self.classes)
        return plan(asked, self.output_stride)

    @cached_property
    def image(self) -> Pair:
        """The smallest image that can tell every clause from its neighbours."""
        return telling_sizes(self.planned.network, self.output_stride)[0]

    @cached_property
    def mutants(self) -> Catalogue:
        """Every mutant."""
        return catalogue(self.planned.network, self.image)

    @cached_property
    def by_name(self) -> dict[str, Mutant]:
        """Every mutant by its name."""
        return {mutant.name: mutant for mutant in self.mutants.mutants}

    def judge(self, name: str, *, lower: bool) -> Judged:
        """Judge one mutant on every level alone.

        Args:
            name: Its name.
            lower: Whether to judge it in dtypes below float32 too.
        """
        mutant = self.by_name[name]
        record = Judged(
            subject=self.name,
            width=self.width,
            kind=mutant.kind,
            name=mutant.name,
            path=mutant.path,
            shows=mutant.shows,
            proof=mutant.proof,
        )
        if mutant.shows is Shows.TRAINING:
            planned = self.planned_at(1.0) if mutant.has_initial_fault else self.planned
            return record.model_copy(update={"training": by_training(planned, mutant, self.seed)})
        found = decide_graph(self.planned, mutant.network, self.image)
        first = found.first.path if found.first else None
        record = record.model_copy(
            update={"structure": found.failed, "first": first, "exact": first in mutant.paths if first else None}
        )
        if mutant.shows is Shows.NOWHERE:
            return record
        return record.model_copy(update=self._values(mutant, lower=lower))

    def _values(self, mutant: Mutant, *, lower: bool) -> dict[str, object]:
        """Judge what a mutant computes, with its graph hidden."""
        lost = blind.unmatched_tensors(mutant.network, self.trial(0).weights)
        if lost:
            return {"numerics": ("WEIGHTS-FIT",), "unfit": lost[0]}
        worst, failed = 0.0, False
        for trial in self.trials():
            worst = max(worst, self._error(mutant, trial, torch.float64))
            failed = blind.refused(worst)
            if failed:
                break
        names = blind.CAST if lower else (FLOAT32.name,)
        tried = {name: self._lower(mutant, blind.CAST[name]) for name in names}
        return {
            "numerics": ("VALUES-END-TO-END",) if failed else (),
            "error": worst,
            "lower": {name: found for name, found in tried.items() if found is not None},
        }

    def _lower(self, mutant: Mutant, dtype: torch.dtype) -> Lower | None:
        """Hold a mutant to the error that the specification has itself in a dtype.

        Returns:
            None where the specification is not finite in any trial: then the dtype says nothing of the mutant.
        """
        ratios: list[float] = []
        for trial in self.trials():
            own = trial.own_error(dtype)
            if own is None:
                continue
            ratios.append(self._error(mutant, trial, dtype) / own)
            if blind.refused_in(ratios[-1], 1.0):
                return Lower(ratio=max(ratios), killed=True)
        return Lower(ratio=max(ratios), killed=False) if ratios else None

    def trials(self) -> Iterator[blind.Trial]:
        """Draw what mutants are judged with, the cheapest first."""
        for number in range(2 * (len(SMALL) + 1)):
            yield self.trial(number)

    def trial(self, number: int) -> blind.Trial:
        """Return one of them."""
        if number not in self._drawn:
            image, draw = (*SMALL, self.image)[number // 2], tuple(Draw)[number % 2]
            self._drawn[number] = blind.trial(self.planned.network, image, draw, self.seed + number)
        return self._drawn[number]

    def _error(self, mutant: Mutant, trial: blind.Trial, dtype: torch.dtype) -> float:
        try:
            with torch.no_grad():
                result = _run(mutant.network, trial, dtype)
        except _WRONG:
            return float("inf")  # it does not run at this size
        found = relative_error(result, trial.oracle)
        return found if found == found else float("inf")  # noqa: PLR0124 - not a number


def _run(network: Network, trial: blind.Trial, dtype: torch.dtype) -> Tensor:
    """Run a mutant; what stands before its fault has the specification's values, and is not computed again."""
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


def _extra(network: Network, trial: blind.Trial) -> dict[str, Tensor]:
    """Return new tensors for what only the mutant has: nobody sets them."""
    return {
        name: initial_tensor(node, role, shape, torch.Generator().manual_seed(zlib.crc32(name.encode()))).double()
        for node in network
        for role, shape in roles(node.op).items()
        if (name := f"{node.path}.{role}") not in trial.weights
    }
