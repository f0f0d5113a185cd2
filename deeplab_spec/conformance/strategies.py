"""Hypothesis strategies that draw published networks, choices, output strides and sizes; every draw has a label.

They do not need torch: a drawn configuration has a graph of the specification, and the arguments to build an
implementation with.
"""

from dataclasses import dataclass, replace
from typing import Final

from hypothesis import assume
from hypothesis import strategies as st

from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.errors import GraphError, SpecError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.api import network
from deeplab_spec.spec.choices import Choices, ChoiceValue, SizesAccepted, names, seen_values
from deeplab_spec.spec.variants import NOTEBOOK, VARIANTS, Variant

NARROW: Final = 1 / 32
"""A width at which a whole network is small and its channel counts still differ."""

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 19)
sizes = st.tuples(sides, sides)
variants = st.sampled_from(VARIANTS)
widths = st.sampled_from((NARROW, 1 / 16))
classes = st.integers(1, 151)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A network, and the size of its input.

    Attributes:
        variant: Name of the published network.
        output_stride: Input pixels per pixel of the backbone's features.
        classes: Channels of the logits.
        choices: Choices that differ from the variant's.
        size: Height and width of the images, in pixels.
    """

    variant: str
    output_stride: int
    classes: int
    choices: dict[str, ChoiceValue]
    size: Pair

    @property
    def graph(self) -> Network:
        """The graph of the specification."""
        return network(self.variant, self.output_stride, self.classes, self.choices)


@st.composite
def cases(draw: st.DrawFn, variants: st.SearchStrategy[Variant] = variants) -> tuple[Variant, int]:
    """Draw a variant and one of its output strides."""
    variant = draw(variants, label="variant")
    return variant, draw(st.sampled_from(variant.output_strides), label="output stride")


@st.composite
def overrides(draw: st.DrawFn, family: type[Choices] = NOTEBOOK.family, most: int = 3) -> dict[str, ChoiceValue]:
    """Draw up to ``most`` choices of a family but the width, each with a value that known implementations have."""
    can_vary = [name for name in names(family) if name != "width"]
    drawn = draw(st.lists(st.sampled_from(can_vary), max_size=most, unique=True), label="choices")
    return {name: draw(st.sampled_from(seen_values(name, family)), label=name) for name in drawn}


@st.composite
def configurations(
    draw: st.DrawFn, widths: st.SearchStrategy[float] = widths, sides: st.SearchStrategy[int] = sides
) -> Configuration:
    """Draw a variant with up to three changed choices, at a size that it accepts.

    Args:
        draw: Supplied by Hypothesis.
        widths: Draws the multiplier of the channels.
        sides: Draws height and width, in pixels; they are rounded up if only multiples of the output stride are
            accepted.
    """
    variant, output_stride = draw(cases(), label="variant and output stride")
    choices: dict[str, ChoiceValue] = {**variant.family.short, **draw(overrides(variant.family), label="overrides")}
    choices["width"] = draw(widths, label="width")
    accepted = choices.get("sizes_accepted", variant.choices.sizes_accepted)
    step = output_stride if accepted is SizesAccepted.MULTIPLES else 1
    height, width = (-(-draw(sides, label=side) // step) * step for side in ("height", "width"))
    drawn = Configuration(
        variant=variant.name,
        output_stride=output_stride,
        classes=draw(classes, label="classes"),
        choices=choices,
        size=(height, width),
    )
    assume(_fits(drawn))
    return drawn


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Draw the graph of a narrow configuration."""
    return draw(configurations(), label="configuration").graph


def narrow(variant: Variant, **overrides: object) -> Choices:
    """Return a variant's choices at a width that runs fast."""
    return replace(variant.choices, width=NARROW, **overrides)  # type: ignore[arg-type]  # as dataclasses.replace


def _fits(drawn: Configuration) -> bool:
    """Return whether the values of a graph have sizes; an atrous layer with padding one has a smaller map."""
    try:
        shapes(drawn.graph, drawn.size)
    except (GraphError, SpecError):
        return False
    return True
