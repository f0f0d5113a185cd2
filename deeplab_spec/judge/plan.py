"""Which inputs a judgement uses: sizes that are legal, and sizes that can tell faults apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.shaped import Shaped, shaped
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Conv2d, Pair
from deeplab_spec.judge.request import Request
from deeplab_spec.spec.choices import Choices, SizesAccepted
from deeplab_spec.spec.network import graph, part, rows

Sizes = Mapping[str, Pair]
"""Height and width by the path of an input."""

SMALL_SIZES: Final = ((64, 96), (97, 65), (33, 50), (1, 1))
"""Images at the interface: a multiple of every output stride, odd, not a multiple, a single pixel."""

SMALL_MULTIPLES: Final = ((64, 96), (96, 32))
LEAST_MAP: Final = 9
"""A map at least so wide, so that every difference of resizes and paddings shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The specification at one output stride, and the sizes to judge it with.

    Attributes:
        request: What was asked for.
        output_stride: The output stride.
        choices: Every decision.
        whole: The graph of the whole network.
        network: The graph that the candidate is held against: the whole network or a part.
    """

    request: Request
    output_stride: int
    choices: Choices
    whole: Network
    network: Network

    def inputs_at(self, image: Pair) -> Sizes:
        """Return the sizes of the candidate's inputs when the whole network sees an image."""
        if self.request.part in {None, "backbone"}:
            return {node.path: image for node in self.network.inputs}
        found = shapes(self.whole, image)
        return {
            node.path: _size(found[self.whole.tap(node.path.removeprefix("input."))]) for node in self.network.inputs
        }

    @property
    def small(self) -> tuple[Sizes, ...]:
        """Inputs that every variant must accept, small enough to run many."""
        any_size = self.choices.sizes_accepted is SizesAccepted.ANY
        return tuple(self.inputs_at(image) for image in (SMALL_SIZES if any_size else SMALL_MULTIPLES))

    @property
    def telling(self) -> tuple[Pair, ...]:
        """Images that can tell every clause from its neighbours, the best first.

        A rate is visible only on a map wider than the rate. The first image has an odd and an even
        side, neither a multiple of the output stride; the second is for candidates that refuse it.
        """
        convs = (node.op for node in self.whole if isinstance(node.op, Conv2d) and node.op.kernel != (1, 1))
        widest = max(LEAST_MAP, *(max(conv.rate) for conv in convs))
        least = self.output_stride * widest + 1
        step = max(self.output_stride, 32)
        multiple = -(-least // step) * step
        odd = least + (least % 2 == 0)
        even = odd + self.output_stride // 2 + 3
        multiples = (multiple, multiple + step)
        if self.choices.sizes_accepted is SizesAccepted.MULTIPLES:
            return (multiples,)
        return ((odd, even + even % 2), multiples)

    def expected(self, image: Pair, choices: Choices | None = None) -> Shaped:
        """Return the specification, or one of other choices, in normal form at an image's size."""
        network = self.network if choices is None else specification(self.request, choices, self.output_stride)[1]
        return normal_form(shaped(network, self.inputs_at(image)))

    def taps(self, sizes: Sizes, batch: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Return the shapes of the results by tap."""
        found = shapes(self.network, sizes)
        return tuple((_tap(node.path), (batch, *found[node.path])) for node in self.network.outputs)


def _tap(path: str) -> str:
    return path.removeprefix("output.") if path != "output" else "logits"


def _size(shape: tuple[int, int, int]) -> Pair:
    return shape[1:]


def specification(request: Request, choices: Choices, output_stride: int) -> tuple[Network, Network]:
    """Return the graph of the whole network, and of the part that is judged."""
    table = rows(choices, output_stride, request.classes)
    whole = graph(table)
    return whole, part(table, request.part) if request.part else whole


def plan(request: Request, output_stride: int) -> Plan:
    """Plan a judgement at one output stride."""
    whole, network = specification(request, request.choices, output_stride)
    return Plan(request=request, output_stride=output_stride, choices=request.choices, whole=whole, network=network)
