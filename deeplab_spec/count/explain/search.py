"""Finds every network, input and convention that gives printed figures, and says how many would by chance.

A figure of few digits is met by many candidates. So all are listed, and the number of fits to expect is computed: the
candidates' density near the figure times the width of its rounding.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from math import log, prod
from typing import Final

from deeplab_spec.analysis.costs import Number, exact
from deeplab_spec.count.explain.axes import OUTPUT_STRIDES, Axes
from deeplab_spec.count.explain.candidates import Case, Way, computed, stored
from deeplab_spec.count.explain.figures import Figure, Quantity
from deeplab_spec.count.explain.tally import Linear
from deeplab_spec.views.progress import Progress, silent

_WINDOW: Final = 2.0
"""Candidates between the figure divided by this and multiplied by it measure the density near the figure."""
_FAR: Final = 8.0
"""Counts of a size and protocol are computed if they can be within this factor of the figure."""
_CLOSE: Final = 0.02
"""Relative difference up to which a candidate is listed as near."""
_NEAREST: Final = 3
"""Candidates that are listed if none fits."""
_KILO: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A count that a figure may stand for.

    Attributes:
        network: Name of the network.
        way: How it is counted.
        count: The exact count.
        printed: The count in the unit of the figure.
        residual: Relative difference of the count from the figure.
        output_strides: Output strides with this count.
        classes: Numbers of classes with this count.
    """

    network: str
    way: Way
    count: Number
    printed: float
    residual: float
    output_strides: set[int] = field(default_factory=set)
    classes: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One explanation of all figures.

    Attributes:
        network: Name of the network.
        output_strides: Output strides for which it holds.
        classes: Numbers of classes for which it holds.
        matches: One match per figure.
        unusual: Its rank: the sum of those of its values.
    """

    network: str
    output_strides: frozenset[int]
    classes: frozenset[int]
    matches: tuple[Match, ...]
    unusual: int

    @property
    def residual(self) -> float:
        """The largest residual."""
        return max(abs(match.residual) for match in self.matches)


@dataclass(slots=True)
class Trial:
    """What was tried for one figure.

    Attributes:
        figure: The figure.
        tried: Number of candidates.
        by_chance: Number of candidates that would meet a figure of this size and number of digits by chance.
        matches: The candidates that meet it, one for each count.
        near: The candidates close to it that do not.
        chances: By network and output stride: number of candidates for one number of classes, as ``by_chance``.
    """

    figure: Figure
    tried: int = 0
    by_chance: float = 0.0
    matches: dict[object, Match] = field(default_factory=dict)
    near: dict[object, Match] = field(default_factory=dict)
    chances: dict[tuple[str, int], float] = field(default_factory=lambda: defaultdict(float))
    _seen: set[object] = field(default_factory=set)

    def is_near(self, rough: int) -> bool:
        """Tell whether counts of a magnitude can be near the figure, of a part too or doubled by a convention."""
        number = self.figure.number * _KILO**self.figure.power
        return Quantity.OPERATIONS in self.figure.quantities and rough / _FAR <= number <= rough * _FAR

    def consider(self, case: Case, way: Way, count: Linear, classes: Sequence[int]) -> None:
        """Hold one candidate against the figure."""
        figure, own = self.figure, case.tally.classes
        if not _may_stand_for(way, figure):
            return
        divisor = way.counting.convention.divisor if way.counting else 1
        scale = 1.0 / (way.unit.thousand**figure.power * divisor)
        if way.counting and not 1 / _FAR < count.own * scale / figure.number < _FAR:
            self.tried += len(classes) if count.each else 1
            return
        tolerance = figure.tolerance + figure.number * (way.counting.uncertainty if way.counting else 0.0)
        numbers = classes if count.each else (own,)
        ends = [(count.own + count.each * (number - own)) * scale for number in (min(numbers), max(numbers))]
        self._weigh(case, way, count, tolerance, sum(ends) / 2, len(numbers))
        reach = max(tolerance, _CLOSE * figure.number)
        if not ends[0] <= figure.number + reach or not ends[1] >= figure.number - reach:
            return
        for number in numbers:
            exactly = count.own + count.each * (number - own)
            printed = exactly * scale
            distance = abs(printed - figure.number)
            if distance <= reach:
                found = self.matches if distance <= tolerance else self.near
                match = Match(
                    network=case.name,
                    way=way,
                    count=exact(exactly // way.unit.each, divisor),
                    printed=printed,
                    residual=printed / figure.number - 1,
                )
                match = found.setdefault((case.name, way, exactly), match)
                match.output_strides.add(case.output_stride)
                match.classes.update([number] if count.each else classes)

    def _weigh(self, case: Case, way: Way, count: Linear, tolerance: float, middle: float, number: int) -> None:
        """Add a candidate to the density near the figure; a count that an output stride does not change counts once."""
        near = 1 / _WINDOW < middle / self.figure.number < _WINDOW
        chance = min(2 * tolerance / (middle * 2 * log(_WINDOW)), 1.0) if near else 0.0
        self.chances[case.name, case.output_stride] += chance
        if way.quantity is Quantity.STORED:
            key = (case.name, way, count)
            if key in self._seen:
                return
            self._seen.add(key)
        self.tried += number
        self.by_chance += number * chance


def _may_stand_for(way: Way, figure: Figure) -> bool:
    if way.quantity not in figure.quantities:
        return False
    if not way.unit.in_bytes:
        return not figure.in_bytes
    return figure.power > 0 and (way.unit.thousand != _KILO or not figure.binary)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All explanations of some figures.

    Attributes:
        fits: Every fit, the most usual first, then by residual.
        trials: What was tried, by figure.
        by_chance: Number of fits to expect by chance.
        nearest: If nothing fits all figures: the closest counts of every figure.
        output_strides: Output strides that were tried, by network.
        classes: Numbers of classes that were tried, by network.
    """

    fits: tuple[Fit, ...]
    trials: tuple[Trial, ...]
    by_chance: float
    nearest: tuple[tuple[Match, ...], ...]
    output_strides: Mapping[str, frozenset[int]]
    classes: Mapping[str, frozenset[int]]


def explain(cases: Sequence[Case], figures: Sequence[Figure], axes: Axes, progress: Progress = silent) -> Explanation:
    """Find every explanation of printed figures.

    One network must meet all figures together.
    """
    trials = tuple(map(Trial, figures))
    classes = {case.name: axes.classes_of(case.tally.classes) for case in cases}
    for number, case in enumerate(cases):
        progress(f"{case.name}, output stride {case.output_stride}", number, len(cases))
        for way, count in stored(case):
            for trial in trials:
                trial.consider(case, way, count, classes[case.name])
        if any(Quantity.OPERATIONS in figure.quantities for figure in figures):
            _compute(case, trials, classes[case.name], axes)
    fits = sorted(_fits(trials, cases, axes), key=lambda fit: (fit.unusual, fit.residual))
    return Explanation(
        fits=tuple(fits),
        trials=trials,
        by_chance=trials[0].by_chance if len(trials) == 1 else _together(trials, classes),
        nearest=() if fits else tuple(_nearest(trial) for trial in trials),
        output_strides={
            case.name: frozenset(other.output_stride for other in cases if other.name == case.name) for case in cases
        },
        classes={name: frozenset(numbers) for name, numbers in classes.items()},
    )


def _compute(case: Case, trials: Sequence[Trial], classes: Sequence[int], axes: Axes) -> None:
    """Hold every way to count operations against the figures, where the sizes of the counts allow it."""
    ways = sum(len(axes.by_convention[row.convention.name]) for row in case.tally.rows)
    for rough, counted in computed(case, axes):
        close = [trial for trial in trials if trial.is_near(rough)]
        for way, count in counted if close else ():
            for trial in close:
                trial.consider(case, way, count, classes)
        for trial in trials:
            if trial not in close and Quantity.OPERATIONS in trial.figure.quantities:
                trial.tried += ways * len(classes)


def _together(trials: Sequence[Trial], classes: Mapping[str, Sequence[int]]) -> float:
    """Return the number of fits of all figures to expect by chance: networks, strides and classes are common."""
    return sum(len(classes[key[0]]) * prod(trial.chances[key] for trial in trials) for key in list(trials[0].chances))


def _fits(trials: Sequence[Trial], cases: Sequence[Case], axes: Axes) -> Iterator[Fit]:
    """Yield the combinations of one match per figure that one network, output stride and number of classes have."""
    for name, case in {case.name: case for case in cases}.items():
        groups: list[tuple[tuple[Match, ...], frozenset[int], frozenset[int]]] = [((), _EVERY, _EVERY)]
        for trial in trials:
            own = [match for match in trial.matches.values() if match.network == name]
            groups = [
                ((*matches, match), strides, numbers)
                for matches, before, earlier in groups
                for match in own
                if (strides := _common(before, match.output_strides)) and (numbers := _common(earlier, match.classes))
            ]
        for matches, strides, numbers in groups:
            ranks = (
                case.unusual,
                min(OUTPUT_STRIDES.get(stride, 1) for stride in strides),
                min(0 if number == case.tally.classes else axes.classes.get(number, 1) for number in numbers),
                *(match.way.unusual for match in matches),
            )
            yield Fit(network=name, output_strides=strides, classes=numbers, matches=matches, unusual=sum(ranks))


_EVERY: Final[frozenset[int]] = frozenset()
"""Before the first figure: any output stride, any number of classes."""


def _common(before: frozenset[int], values: set[int]) -> frozenset[int]:
    return before & values if before else frozenset(values)


def _nearest(trial: Trial) -> tuple[Match, ...]:
    """Return the matches of a figure, or else the closest counts."""
    found = trial.matches or trial.near
    return tuple(nsmallest(_NEAREST, found.values(), key=lambda match: abs(match.residual)))
