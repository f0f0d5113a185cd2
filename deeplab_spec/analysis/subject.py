"""The subject of an analysis: a variant with choices, an output stride, a size and a number of classes."""

from dataclasses import dataclass

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.choices import Choices, ChoiceValue, overrides_between, written
from deeplab_spec.spec.network import DEFAULT_CLASSES, check_output_stride, graph, rows
from deeplab_spec.spec.rows import NetworkRows
from deeplab_spec.spec.variants import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One network of the specification, at one input size.

    Attributes:
        variant: The published network.
        choices: A value for every choice.
        output_stride: Input pixels per pixel of the backbone's result.
        size: Height and width of the input.
        classes: Channels of the logits.

    Raises:
        SpecError: If the variant does not support the output stride, the size is not legal, or the number of classes
            is below 1.
    """

    variant: Variant
    choices: Choices
    output_stride: int = 16
    size: Pair = (513, 513)
    classes: int = DEFAULT_CLASSES

    def __post_init__(self) -> None:
        check_output_stride(self.variant, self.output_stride)
        if self.classes < 1:
            raise SpecError("classes", "must be 1 or more", self.classes)
        if min(self.size) < 1:
            raise SpecError("size", "height and width must be 1 or more", self.size)
        multiple = self.rows().size_multiple
        if any(side % multiple for side in self.size):
            raise SpecError("size", f"height and width must be multiples of {multiple}", self.size)

    def rows(self) -> NetworkRows:
        """Return the rows of the network."""
        return rows(self.choices, self.output_stride, self.classes, self.variant.reported_output_stride)

    def network(self) -> Network:
        """Return the network's graph."""
        return graph(self.rows())

    @property
    def overrides(self) -> dict[str, ChoiceValue]:
        """The choices that differ from the variant's."""
        return overrides_between(self.variant.choices, self.choices)

    @property
    def title(self) -> str:
        """The subject in one line."""
        changes = ", ".join(f"{name}={written(value)}" for name, value in self.overrides.items())
        name = f"{self.variant.name} with {changes}" if changes else self.variant.name
        height, width = self.size
        return f"{name}, output stride {self.output_stride}, {height}x{width}, {self.classes} classes"
