"""Published multiply-adds of the network, compared with the reconstruction ``tfprof``.

The paper's table 5 gives multiply-adds of whole networks in billions, with two decimals. Plain multiply-adds of
convolutions differ by up to 14 billion; the convention ``tfprof`` matches them. Its three constants were fitted to
the residuals. Every figure is linear in each constant, so the values at which all figures are matched are an
interval: a narrow one is evidence, a wide one means that no figure determines the constant.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from deeplab_spec.analysis.conventions import TFPROF, Convention, tfprof_halves
from deeplab_spec.analysis.costs import Number
from deeplab_spec.analysis.protocol import MULTI_SCALE, SINGLE, Protocol, protocol_totals
from deeplab_spec.analysis.terms import Mode, Surroundings, Term, Terms
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.errors import GraphError, SpecError
from deeplab_spec.graph.network import Node, Source
from deeplab_spec.graph.ops import Conv2d, Pair
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import Choices, ChoiceValue, Decoder, choose, names, seen_values
from deeplab_spec.spec.network import DEFAULT_CLASSES
from deeplab_spec.spec.sources import paper
from deeplab_spec.spec.variants import TF_RELEASE, TF_RELEASE_DENSE, Variant

TOLERANCE: Final = 2e-4
"""Largest relative residual of the reconstruction; two printed decimals are up to 1e-4 of the smallest figure."""

_TABLE_5: Final = paper("table 5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One row of the table: a network and its evaluation protocol.

    ``overrides`` are the choices that differ from those of the variant, with a dense or a separable head; ``billions``
    the published multiply-adds, as printed, or None for a prediction.
    """

    variant: Variant
    overrides: tuple[tuple[str, ChoiceValue], ...] = ()
    output_stride: int
    protocol: Protocol = SINGLE
    size: Pair = (513, 513)
    classes: int = DEFAULT_CLASSES
    billions: str | None = None
    source: Source = _TABLE_5

    @property
    def choices(self) -> Choices:
        """The value of every choice."""
        return choose(self.variant.choices, dict(self.overrides))

    def subject(self, other: Mapping[str, ChoiceValue] | None = None) -> Subject:
        """Return the network and its input, with further overrides.

        Raises:
            SpecError: If a choice cannot have its value, or the network does not accept the size.
        """
        return Subject(
            variant=self.variant,
            choices=choose(self.choices, other or {}),
            output_stride=self.output_stride,
            size=self.size,
            classes=self.classes,
        )

    def operations(self, convention: Convention = TFPROF, other: Mapping[str, ChoiceValue] | None = None) -> Number:
        """Count the configuration under a convention.

        Raises:
            GraphError: If the choices contradict each other.
            SpecError: If a choice cannot have its value, or the network does not accept the size.
        """
        graph = self.subject(other).network()
        return protocol_totals(Evaluator(graph, convention), self.size, self.protocol).operations

    def residual(self, operations: Number) -> float | None:
        """Return the relative difference of a count from the published figure; None if none is published."""
        return operations / (float(self.billions) * 1e9) - 1 if self.billions else None


WITHOUT_DECODER: Final = (("decoder", Decoder.NONE),)

# fmt: off
PUBLISHED: Final = (
    Configuration(variant=TF_RELEASE_DENSE, overrides=WITHOUT_DECODER, output_stride=16, billions="68.00"),
    Configuration(variant=TF_RELEASE_DENSE, overrides=WITHOUT_DECODER, output_stride=8, billions="240.85"),
    Configuration(variant=TF_RELEASE_DENSE, output_stride=16, billions="89.76"),
    Configuration(variant=TF_RELEASE_DENSE, output_stride=8, billions="262.59"),
    Configuration(variant=TF_RELEASE, output_stride=16, billions="54.17"),
    Configuration(variant=TF_RELEASE, output_stride=8, billions="177.10"),
)
_UNPUBLISHED: Final = (
    Configuration(variant=TF_RELEASE, overrides=WITHOUT_DECODER, output_stride=16),
    Configuration(variant=TF_RELEASE, overrides=WITHOUT_DECODER, output_stride=8),
)
_PROTOCOLS: Final = (SINGLE, Protocol(scales=MULTI_SCALE), Protocol(scales=MULTI_SCALE, flip=True))
_SIZES: Final = (((512, 512), 21), ((769, 769), 19), ((1024, 2048), 19), ((1025, 2049), 19))
# fmt: on


def configurations() -> Iterator[Configuration]:
    """Yield every configuration of the table: dense and separable, with and without decoder, all protocols."""
    for row in (*PUBLISHED, *_UNPUBLISHED):
        for protocol in _PROTOCOLS:
            billions = row.billions if protocol == SINGLE else None
            yield replace(row, protocol=protocol, billions=billions)


def other_sizes() -> Iterator[Configuration]:
    """Yield predictions for other sizes and numbers of classes."""
    for row in (*PUBLISHED, *_UNPUBLISHED):
        for size, classes in _SIZES:
            yield replace(row, size=size, classes=classes, billions=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Another value of one choice, and whether the published figures are compatible with it.

    Attributes:
        choice: Name of the choice.
        value: The other value.
        changes: Change of the multiply-adds of every published row; None if that network does not exist.
        residuals: Residual of every published row with the other value; None if that network does not exist.
    """

    choice: str
    value: ChoiceValue
    changes: tuple[Number | None, ...]
    residuals: tuple[float | None, ...]

    @property
    def visible(self) -> bool:
        """Whether it changes a published figure, or makes one impossible."""
        return any(change != 0 for change in self.changes)

    def rules_out(self, row: int) -> bool:
        """Tell whether the published figure of a row rules the value out."""
        residual = self.residuals[row]
        return residual is not None and abs(residual) > TOLERANCE


def readings() -> Iterator[Reading]:
    """Yield every other value of every choice."""
    plain = [row.operations() for row in PUBLISHED]
    for choice in names(TF_RELEASE.family):
        for value in seen_values(choice, TF_RELEASE.family):
            if all(_settled(row, choice, value) for row in PUBLISHED):
                continue
            changes = tuple(_change(row, choice, value, before) for row, before in zip(PUBLISHED, plain, strict=True))
            residuals = tuple(
                None if change is None else row.residual(before + change)
                for row, before, change in zip(PUBLISHED, plain, changes, strict=True)
            )
            yield Reading(choice=choice, value=value, changes=changes, residuals=residuals)


def _settled(row: Configuration, choice: str, value: ChoiceValue) -> bool:
    """Return whether the row has that value, or determines the choice itself."""
    return choice in dict(row.overrides) or bool(getattr(row.choices, choice) == value)


def _change(row: Configuration, choice: str, value: ChoiceValue, before: Number) -> Number | None:
    if _settled(row, choice, value):
        return 0
    try:
        return row.operations(other={choice: value}) - before
    except (GraphError, SpecError):
        return None


def published(subject: Subject, protocol: Protocol = SINGLE) -> Configuration | None:
    """Return the published row of a network and a protocol, if there is one."""
    for row in PUBLISHED:
        evaluated = (row.choices, row.output_stride, row.size, row.classes, row.protocol)
        if evaluated == (subject.choices, subject.output_stride, subject.size, subject.classes, protocol):
            return row
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One constant of the reconstruction.

    Attributes:
        title: The quantity that it multiplies.
        value: Multiply-adds per unit of that quantity.
        least: Smallest value at which every published figure is matched.
        most: Largest such value.
    """

    title: str
    value: float
    least: float
    most: float


def constants() -> Iterator[Constant]:
    """Yield every constant, with the interval that the published figures allow."""
    plain = [row.operations() for row in PUBLISHED]
    for title, value, is_counted in _CONSTANTS:
        least, most = float("-inf"), float("inf")
        for row, operations in zip(PUBLISHED, plain, strict=True):
            figure = float(row.billions or 0) * 1e9
            counted = row.operations(_only(is_counted)) / value
            least = max(least, value + (figure * (1 - TOLERANCE) - operations) / counted)
            most = min(most, value + (figure * (1 + TOLERANCE) - operations) / counted)
        yield Constant(title=title, value=value, least=least, most=most)


def _only(is_counted: Callable[[Node, Term], bool]) -> Convention:
    def formula(node: Node, around: Surroundings, mode: Mode) -> Terms:
        return tuple(term for term in tfprof_halves(node, around, mode) if is_counted(node, term))

    return replace(TFPROF, formula=formula)


def _dense_weight(node: Node, term: Term) -> bool:
    return term.once and not _depthwise(node)


def _depthwise_weight(node: Node, term: Term) -> bool:
    return term.once and _depthwise(node)


def _element(node: Node, term: Term) -> bool:
    products = isinstance(node.op, Conv2d) and term.count != node.op.channels_out  # a bias is one for each channel
    return not term.once and not products


def _depthwise(node: Node) -> bool:
    return isinstance(node.op, Conv2d) and node.op.depthwise


# fmt: off
_CONSTANTS: Final = (
    ("weights of convolutions that are not depthwise, once", 2.5, _dense_weight),
    ("depthwise weights, once", 1.0, _depthwise_weight),
    ("elements of sums, of the pooled map, of biases of the logits, and twice of the image", 0.5, _element),
)
# fmt: on
