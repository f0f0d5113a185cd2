"""Explains printed figures for a user's network, one published network, or all of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.capture.candidate.start import HERE, ProcessSettings
from deeplab_spec.count.explain.axes import CHOICES, Axes
from deeplab_spec.count.explain.candidates import Case
from deeplab_spec.count.explain.document import ExplainDocument, explain_document
from deeplab_spec.count.explain.figures import Figure, read_figures
from deeplab_spec.count.explain.search import explain
from deeplab_spec.count.explain.tally import Tally
from deeplab_spec.count.service import CountRequest, is_reference
from deeplab_spec.errors import DeepLabSpecError, GraphError, SpecError, TargetError, require_torch
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import ChoiceValue, choose, names, read_overrides, seen_values, written
from deeplab_spec.spec.network import DEFAULT_CLASSES
from deeplab_spec.spec.variants import VARIANTS, Variant, variant
from deeplab_spec.views.progress import Progress, silent

if TYPE_CHECKING:
    from deeplab_spec.capture.target import TargetLike

_ANY_TAKES = (512, 512)
"""A size that every published network takes: a multiple of every output stride."""
_TARGET_STRIDES = (16, 8)
"""Output strides that a target is built for, unless one is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainRequest:
    """The settings of an explanation; None is an axis that is searched.

    ``variant`` is None for all published networks, if there is no target; ``axes`` has the values to try on the other
    axes. The other settings are those of :class:`CountRequest`.
    """

    figures: tuple[Figure, ...]
    variant: str | None = None
    overrides: Mapping[str, ChoiceValue] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    output_stride: int | None = None
    size: Pair | None = None
    classes: int | None = None
    axes: Axes = field(default_factory=Axes)
    process: ProcessSettings = HERE

    @classmethod
    def of(cls, request: CountRequest, figures: str, given: Collection[str]) -> "ExplainRequest":
        """Return the request that explains figures, with the settings of a count that the user gave.

        ``given`` are the names of the settings that the user gave; the others are searched.

        Raises:
            SpecError: If the figures cannot be read, or a training step is to be counted.
        """
        if request.mode is not Mode.FORWARD:
            raise SpecError("--explain", "searches counts of an evaluation; leave out --mode", request.mode.value)
        axes = Axes()
        if "size" in given:
            axes = replace(axes, sizes={request.size: 0})
        if "classes" in given:
            axes = replace(axes, classes={request.classes: 0}, fixed_classes=True)
        if {"scales", "flip"} & set(given):
            axes = replace(axes, protocols={request.protocol: 0})
        if "convention_name" in given:
            countings = tuple(entry for entry in axes.countings if entry.convention is request.convention)
            axes = replace(axes, countings=countings)
        return cls(
            figures=read_figures(figures),
            variant=request.variant,
            overrides=read_overrides(request.overrides, variant(request.variant or VARIANTS[0].name).family),
            arguments=request.arguments,
            output_stride=request.output_stride if "output_stride" in given else None,
            size=request.size if "size" in given else None,
            classes=request.classes if "classes" in given else None,
            axes=axes,
            process=request.process,
        )

    def document(self, target: "TargetLike | None", progress: Progress = silent) -> ExplainDocument:
        """Explain the figures for a target, for the given published network, or for all.

        Raises:
            SpecError: If an option has a value that it cannot have.
            TargetError: If the target cannot be built or read.
        """
        if is_reference(target):
            published = replace(self, variant=target.partition(":")[2] or VARIANTS[0].name)
            return published.document(None, progress)
        if target is None:
            cases = self._published((variant(self.variant),) if self.variant else VARIANTS)
        elif self.overrides:
            raise SpecError("--choose", "applies to a published network, not to a target", next(iter(self.overrides)))
        else:
            cases = self._captured(target)
        return explain_document(explain(tuple(cases), self.figures, self.axes, progress))

    def _published(self, chosen: Sequence[Variant]) -> Iterator[Case]:
        """Yield published networks at every output stride, with the choices that a caption may leave out."""
        for published in chosen:
            strides = (self.output_stride,) if self.output_stride else published.output_strides
            for changes, stride in product(self._changes(published), strides):
                try:
                    case = self._case(published, changes, stride)
                except (SpecError, GraphError):
                    if len(chosen) == 1 and changes == self.overrides:
                        raise  # the user's own choice or output stride
                    continue
                yield case

    def _changes(self, published: Variant) -> Iterator[Mapping[str, ChoiceValue]]:
        """Yield the overrides to try: the user's, and those with one more choice that a caption may leave out."""
        yield self.overrides
        for name in CHOICES:
            if name in names(published.family) and name not in self.overrides:
                own = getattr(published.choices, name, None)
                yield from (
                    {**self.overrides, name: value} for value in seen_values(name, published.family) if value != own
                )

    def _case(self, published: Variant, changes: Mapping[str, ChoiceValue], stride: int) -> Case:
        subject = Subject(
            variant=published,
            choices=choose(published.choices, changes),
            output_stride=stride,
            size=self.size or _ANY_TAKES,
            classes=self.classes or DEFAULT_CLASSES,
        )
        multiple = subject.rows().size_multiple
        return Case(
            name=" ".join([published.name, *(f"{name}={written(value)}" for name, value in changes.items())]),
            output_stride=stride,
            tally=Tally(subject.network(), self.axes.conventions),
            takes=lambda size: not any(side % multiple for side in size),
            unusual=2 * len(set(changes) - set(self.overrides)),
        )

    def _captured(self, target: "TargetLike") -> Iterator[Case]:
        """Yield a user's network at every output stride that it can be built for."""
        require_torch("count TARGET --explain")
        from deeplab_spec.count.target_counts import case_of

        failures: list[DeepLabSpecError] = []
        found = False
        for stride in (self.output_stride,) if self.output_stride else _TARGET_STRIDES:
            try:
                case = case_of(self, target, stride, self.classes or DEFAULT_CLASSES, self.axes.conventions)
            except (TargetError, GraphError) as error:
                failures.append(error)
                continue
            found = True
            yield case
        if not found:
            raise failures[0]
