"""Counts one network or compares two, published ones or a user's own; only the latter need torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeGuard

from deeplab_spec.analysis.conventions import Convention
from deeplab_spec.analysis.costs import block_costs, total_cost
from deeplab_spec.analysis.protocol import Protocol, protocol_costs
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.capture.candidate.start import HERE, ProcessSettings
from deeplab_spec.count.document import CountDocument, count_document, counting
from deeplab_spec.count.side_by_side import (
    Counter,
    SideBySideDocument,
    difference,
    operations_explained,
    parameters_explained,
    side_by_side,
)
from deeplab_spec.errors import SpecError, require_torch
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import choose, read_overrides
from deeplab_spec.spec.variants import NOTEBOOK, REFERENCE, Variant, variant

if TYPE_CHECKING:
    from deeplab_spec.capture.target import TargetLike
    from deeplab_spec.count.target_counts import Captured


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRequest:
    """The settings of a count, apart from the network.

    Attributes:
        variant: Name of the published network; None for the default, or the one nearest to a target.
        overrides: Choices that differ from the variant, as ``NAME=VALUE``.
        arguments: Keyword arguments of a target's builder, as text.
        output_stride: The output stride of every network.
        size: Height and width of the image, in pixels.
        classes: Channels of the logits.
        convention: What counts as one operation.
        mode: An evaluation, or a training step.
        protocol: Scales and mirrored images.
        by_node: Whether a row is a node instead of a block.
        process: How a target's process is started.
    """

    variant: str | None
    overrides: tuple[str, ...]
    arguments: Mapping[str, str]
    output_stride: int
    size: Pair
    classes: int
    convention: Convention
    mode: Mode
    protocol: Protocol
    by_node: bool
    process: ProcessSettings = HERE

    def document(self, target: "TargetLike | None") -> CountDocument:
        """Count one network: a target, or without one the published network.

        Raises:
            SpecError: If an option has a value that it cannot have.
            TargetError: If the target cannot be built or read.
        """
        if target is None or is_reference(target):
            subject = self._published(target)
            return count_document(
                subject, convention=self.convention, mode=self.mode, protocol=self.protocol, by_node=self.by_node
            )
        if self.overrides:
            raise SpecError("--choose", "applies to a published network, not to a target", self.overrides[0])
        return self._captured(target, variant(self.variant) if self.variant else None).document(self)

    def title(self, target: "TargetLike | None") -> str:
        """Return the name of a network and its settings, in one line."""
        if target is None or is_reference(target):
            return self._published(target).title
        height, width = self.size
        name = target if isinstance(target, str) else getattr(target, "__qualname__", type(target).__qualname__)
        return f"{name}, output stride {self.output_stride}, {height}x{width}, {self.classes} classes"

    def side_by_side(self, first: "TargetLike | None", second: "TargetLike") -> SideBySideDocument:
        """Compare two networks.

        Raises:
            SpecError: If an option has a value that it cannot have.
            TargetError: If a target cannot be built or read.
        """
        title, counter = self._side(first, second)
        other_title, other_counter = self._side(second, first)
        left, right = counter(self.convention), other_counter(self.convention)
        rows = side_by_side(left, right) if self.by_node else side_by_side(block_costs(left), block_costs(right))
        totals = total_cost(left), total_cost(right)
        return SideBySideDocument(
            first=title,
            second=other_title,
            output_stride=self.output_stride,
            size=self.size,
            classes=self.classes,
            **counting(self.convention, self.mode, self.protocol),
            equal=all(row.equal for row in rows),
            total=difference("total", *totals),
            rows=rows,
            operations_explained=operations_explained(counter, other_counter, self.convention, self.mode),
            parameters_explained=parameters_explained(*totals),
        )

    def _side(self, target: "TargetLike | None", other: "TargetLike | None") -> tuple[str, Counter]:
        """Return the title and the counter of a network."""
        if target is None or is_reference(target):
            subject = self._published(target)
            graph = subject.network()
            return self.title(target), lambda convention: protocol_costs(
                graph, subject.size, self.protocol, convention, self.mode
            )
        named = self._published(other).variant if other is None or is_reference(other) else None
        captured = self._captured(target, named or (variant(self.variant) if self.variant else None))
        return self.title(target), lambda convention: captured.costs(convention, self.mode, self.protocol.images)

    def _published(self, target: str | None) -> Subject:
        name = (target or "").partition(":")[2] or self.variant or NOTEBOOK.name
        chosen = variant(name)
        return Subject(
            variant=chosen,
            choices=choose(chosen.choices, read_overrides(self.overrides, chosen.family)),
            output_stride=self.output_stride,
            size=self.size,
            classes=self.classes,
        )

    def _captured(self, target: "TargetLike", named: Variant | None) -> "Captured":
        require_torch("count TARGET")
        from deeplab_spec.capture.target import Target
        from deeplab_spec.count.target_counts import read

        built = replace(Target.of(target, self.arguments), process=self.process)
        return read(built, self.output_stride, self.classes, self.size, self.protocol, named)


def is_reference(target: "TargetLike | None") -> TypeGuard[str]:
    """Tell whether a target names a published network."""
    return isinstance(target, str) and target.partition(":")[0] == REFERENCE
