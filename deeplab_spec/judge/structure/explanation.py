"""Explains findings: by a choice, another output stride, or another published network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from deeplab_spec.align.differences import Fact, differences, fact, nearer_alignment
from deeplab_spec.align.identify import Identity, Key, attribute, identify
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.published import unlike_backbone, width_of_head
from deeplab_spec.align.search import INVISIBLE, Build, Library
from deeplab_spec.graph.network import Network
from deeplab_spec.judge.finding import Finding, as_json
from deeplab_spec.judge.plan import SpecifiedPlan
from deeplab_spec.judge.structure.observe import Reading
from deeplab_spec.spec.choices import Choices, ChoiceValue, choose, names, overrides_between, written
from deeplab_spec.spec.variants import VARIANTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The explanation of the findings at one output stride.

    Attributes:
        variant: The nearest published network.
        overrides: The choices that differ from it.
        choice_of: The choice that explains a difference, by node and attribute.
        decided: The value that the candidate has, by choice.
        others: Other networks that a value may come from, each with its description.
    """

    variant: str = ""
    overrides: Mapping[str, ChoiceValue] = field(default_factory=dict)
    choice_of: Mapping[Key, str] = field(default_factory=dict)
    decided: Mapping[str, ChoiceValue] = field(default_factory=dict)
    others: tuple[tuple[str, Network], ...] = ()

    def of(self, finding: Finding) -> tuple[str | None, str]:
        """Return the choice that explains a finding, and a hint."""
        key = (finding.path, finding.candidate_path, finding.attribute)
        choice = finding.choice or self.choice_of.get(key) or self._at(finding.path, finding.attribute)
        hint = finding.hint or self._as_elsewhere(finding)
        if not hint and choice is not None and choice in self.decided:
            hint = f"explained by {choice}={written(self.decided[choice])}"
        return choice, hint

    def _at(self, path: str, attribute: str) -> str | None:
        """Return the choice of a numeric finding: that of a structural finding at the same node."""
        if "value" not in attribute and attribute not in {"weight", "bias", "running_mean", "running_var"}:
            return None
        return next((choice for (where, _, _), choice in self.choice_of.items() if where == path), None)

    def _as_elsewhere(self, finding: Finding) -> str:
        for label, network in self.others:
            if finding.path in network and as_json(_fact_of(network, finding)) == finding.actual:
                return f"as {label}"
        return ""


def _fact_of(network: Network, finding: Finding) -> Fact:
    node = network[finding.path]
    if finding.attribute == "inputs":
        return tuple(sorted(node.inputs))
    return fact(getattr(node.op, finding.attribute, "no such fact"))


@dataclass(slots=True, kw_only=True)
class Explanation:
    """Explains what differs between a candidate and the specification.

    Attributes:
        plan: The specification.
        reading: The candidate's graph; it is aligned by way of the nearest network where that leaves fewer differences.
        identity: The nearest network; None if nothing differs, or there is none.
    """

    plan: SpecifiedPlan
    reading: Reading
    identity: Identity | None = None
    build: Build = field(init=False)

    def __post_init__(self) -> None:
        if not differences(self.reading.alignment) or self.reading.other_architecture:
            return
        self.build = lru_cache(maxsize=512)(self._built)
        candidate = self.reading.alignment.candidate
        starts = dict(_starts(self.plan, candidate))
        self.identity = identify([candidate], [Library(self.build)], starts, of_head=_of_head(self.plan))
        if self.identity is None:
            return
        nearest = self.build(self.identity.choices)
        unlike = unlike_backbone(align(nearest, candidate))
        if unlike:
            self.identity = None
            self.reading = replace(self.reading, other_architecture=unlike)
        elif self.identity.choices != self.plan.choices:
            self.reading = replace(self.reading, alignment=nearer_alignment(self.reading.alignment, nearest))

    def _built(self, choices: Choices) -> Shaped:
        return self.reading.compared(self.plan.expected(self.reading.image, choices))

    def explained(self) -> Explained:
        """Return what explains the differences."""
        if self.identity:
            return _put_together(self.plan, self.reading, self.identity, self.build)
        overrides = overrides_between(self.plan.request.published.choices, self.plan.choices)
        return Explained(variant=self.plan.request.reference, overrides=overrides)


def _of_head(plan: SpecifiedPlan) -> bool:
    return plan.request.part not in {None, "backbone"}


def _starts(plan: SpecifiedPlan, candidate: Shaped) -> Iterator[tuple[str, Choices]]:
    """Return the published networks, the judged one first; choices that no graph shows keep the judged values."""
    decided = INVISIBLE.intersection(names(type(plan.choices)))
    of_head = _of_head(plan)
    variants = [each for each in VARIANTS if of_head or each.family is plan.request.published.family]
    for variant in sorted(variants, key=lambda variant: variant.name != plan.request.variant):
        judged = variant.name == plan.request.variant
        unseen = {name: getattr(plan.choices, name) for name in (decided if judged else {"width"})}
        unseen |= {"width": width_of_head(candidate)} if of_head else {}
        if plan.output_stride in variant.output_strides:
            yield variant.name, choose(variant.choices, unseen)


def _put_together(plan: SpecifiedPlan, reading: Reading, found: Identity, build: Build) -> Explained:
    base = next(variant.choices for variant in VARIANTS if variant.name == found.start)
    decided = overrides_between(plan.choices, found.choices)
    return Explained(
        variant=found.start,
        overrides=overrides_between(base, found.choices),
        choice_of=attribute(plan.choices, build, reading.alignment, decided),
        decided=decided,
        others=tuple(_others(plan)),
    )


def _others(plan: SpecifiedPlan) -> Iterator[tuple[str, Network]]:
    """Return networks that a wrong value may come from."""
    request = plan.request
    for output_stride in request.published.output_strides:
        if output_stride != plan.output_stride:
            yield f"at output stride {output_stride}", plan.of(plan.choices, output_stride)
    for variant in VARIANTS:
        if variant.name != request.variant and plan.output_stride in variant.output_strides:
            yield f"in {variant.name}", plan.of(variant.choices)
