"""Plans a judgement: the network to judge against, and the sizes of the inputs that show faults."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from deeplab_spec.align.lock import Lock
from deeplab_spec.align.network_at_size import Shaped, for_any_size, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.analysis.costs import block_of
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Conv2d, Output, Pair
from deeplab_spec.judge.request import Request
from deeplab_spec.spec.choices import Choices, Results, SizesAccepted
from deeplab_spec.spec.layer_choices import OUTPUT_STRIDES
from deeplab_spec.spec.network import graph, part, rows

Sizes = Mapping[str, Pair]
"""Height and width by the path of an input."""

Taps = tuple[tuple[str, tuple[int, ...]], ...]
"""Shapes of results by their public names."""

SMALL_SIZES: Final = ((64, 96), (97, 65), (33, 50), (1, 1))
"""Image sizes at the interface: a multiple of every output stride, odd sides, no multiple, a single pixel."""

SMALL_MULTIPLES: Final = ((64, 96), (96, 32))
LARGE: Final = (513, 545)
"""An image as large as those that networks are trained with."""

LARGE_MULTIPLE: Final = (544, 576)
_SKIP: Final = ".skip.conv"
LEAST_MAP: Final = 9
"""The smallest side of a map on which every difference of resizes and paddings shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The sizes that a file fixes, or a whole network for its part; a module accepts any.

    Attributes:
        sides: Height and width of every input; empty if they are not fixed.
        batch: The number of images; None if it is not fixed.
        channels: Channels of every input; those of a part are its backbone's, whatever that is.
    """

    sides: tuple[Pair, ...] = ()
    batch: int | None = None
    channels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(ABC):
    """The network to judge a candidate against at one output stride, and the sizes to judge it with.

    Attributes:
        request: The request.
        output_stride: The output stride.
        network: The graph to judge the candidate against.
        limits: The sizes that the candidate fixes.
    """

    request: Request
    output_stride: int
    network: Network
    limits: Limits = field(default_factory=Limits)

    def inputs_at(self, image: Pair) -> Sizes:
        """Return the sizes of the candidate's inputs for an image at the input of the whole network."""
        if self.limits.sides:
            return dict(zip((node.path for node in self.network.inputs), self.limits.sides, strict=False))
        return self._free_inputs_at(image)

    @property
    def batch(self) -> int:
        """The number of images of most calls."""
        return self.limits.batch or 1

    @property
    def small(self) -> tuple[Sizes, ...]:
        """Sizes that must be accepted, small enough for many calls."""
        return tuple(map(self.inputs_at, self.limits.sides[:1] or self._small_images()))

    @property
    def sizes(self) -> tuple[Sizes, ...]:
        """All sizes that must be accepted: the small ones, and a large one."""
        return self.small if self.limits.sides else (*self.small, self.inputs_at(self._large_image()))

    @property
    def telling(self) -> tuple[Pair, ...]:
        """Image sizes at which every clause can fail, the best first.

        A rate shows only on a map wider than the rate. The first size has an odd and an even side, neither a multiple
        of the output stride; the second is for candidates that accept multiples only.
        """
        return self.limits.sides[:1] or self._telling_images()

    def taps(self, sizes: Sizes, batch: int) -> Taps:
        """Return the shapes of the results by tap."""
        found = shapes(self.network, sizes)
        return tuple((tap_of(node), (batch, *found[node.path])) for node in self.network.outputs)

    @abstractmethod
    def expected(self, image: Pair) -> Shaped:
        """Return the network to judge against, in normal form at an image's size."""

    @property
    def unstrided(self) -> frozenset[str]:
        """The blocks that lose their stride at this output stride."""
        return frozenset()

    @property
    def named_results(self) -> bool:
        """Whether results are returned by name, and not as a tensor."""
        return len(self.network.outputs) > 1

    def _free_inputs_at(self, image: Pair) -> Sizes:
        return {node.path: image for node in self.network.inputs}

    @abstractmethod
    def _small_images(self) -> tuple[Pair, ...]: ...

    @abstractmethod
    def _large_image(self) -> Pair: ...

    @abstractmethod
    def _telling_images(self) -> tuple[Pair, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecifiedPlan(Plan):
    """A plan against the specification.

    Attributes:
        choices: The choices of the specification.
        whole: The graph of the whole network; ``network`` may be a part of it.
    """

    choices: Choices
    whole: Network
    _known: dict[Pair, Sizes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def expected(self, image: Pair, choices: Choices | None = None) -> Shaped:
        """Return the specification, or that of other choices, in normal form at an image's size."""
        network, sizes = self.network, self.inputs_at(image)
        if choices is not None:
            network = self.of(choices)
            if any(node.path not in sizes for node in network.inputs):  # a head with a decoder, instead of one without
                sizes = {**self._sizes_of(network, image), **sizes}
        return normal_form(shaped(network, sizes))

    def of(self, choices: Choices, output_stride: int | None = None) -> Network:
        """Return the judged part of the network of other choices, or of another output stride."""
        return judged_part(self.request, choices, output_stride or self.output_stride, self.limits.channels)

    @property
    def unstrided(self) -> frozenset[str]:
        """The blocks that lose their stride at this output stride: those that have one at the coarsest."""
        coarsest = specification(self.request, self.choices, OUTPUT_STRIDES[-1])[0]
        return frozenset(_strided(coarsest) - _strided(self.whole))

    @property
    def named_results(self) -> bool:
        """Whether results are returned by name, and not as a tensor."""
        by_choice = self.request.part is None and self.choices.results is Results.NAMED
        return by_choice or len(self.network.outputs) > 1

    def _free_inputs_at(self, image: Pair) -> Sizes:
        if self.request.part in {None, "backbone"}:
            return {node.path: image for node in self.network.inputs}
        if image not in self._known:
            self._known[image] = self._sizes_of(self.network, image)
        return self._known[image]

    def _sizes_of(self, part: Network, image: Pair) -> Sizes:
        """Return the sizes of a part's inputs, which are taps of the whole network, for an image."""
        found = shapes(self.whole, image)
        taps = {node.path: self.whole.tap(node.path.removeprefix("input.")) for node in part.inputs}
        return {path: found[tap][1:] for path, tap in taps.items()}

    def _small_images(self) -> tuple[Pair, ...]:
        return SMALL_MULTIPLES if self._multiples else SMALL_SIZES

    def _large_image(self) -> Pair:
        return LARGE_MULTIPLE if self._multiples else LARGE

    def _telling_images(self) -> tuple[Pair, ...]:
        free, multiples = telling_sizes(self.whole, self.output_stride)
        return (multiples,) if self._multiples else (free, multiples)

    @property
    def _multiples(self) -> bool:
        return self.choices.sizes_accepted is SizesAccepted.MULTIPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstPlan(Plan):
    """A plan against another network, given by its lock.

    Attributes:
        lock: The other network.
    """

    lock: Lock

    @property
    def unstrided(self) -> frozenset[str]:
        """The blocks whose skip convolution has no stride."""
        convs = ((node.path, node.op) for node in self.network if isinstance(node.op, Conv2d))
        skips = ((path, op) for path, op in convs if path.endswith(_SKIP))
        return frozenset(path.removesuffix(_SKIP) for path, op in skips if op.stride == (1, 1))

    def expected(self, image: Pair) -> Shaped:
        """Return the other network in normal form at an image's size."""
        return normal_form(replace(shaped(self.network, self.inputs_at(image)), times=self.lock.normal.times))

    def _small_images(self) -> tuple[Pair, ...]:
        accepted = (response.inputs[0][-2:] for response in self.lock.responses if response.results)
        return tuple((height, width) for height, width in accepted) or (self.lock.image,)

    def _large_image(self) -> Pair:
        return self.lock.image

    def _telling_images(self) -> tuple[Pair, ...]:
        return telling_sizes(self.network, self.output_stride)


def tap_of(node: Node) -> str:
    """Return the public name of an output."""
    return node.op.name if isinstance(node.op, Output) else ""


def telling_sizes(network: Network, output_stride: int) -> tuple[Pair, Pair]:
    """Return the smallest image sizes on whose maps every rate and padding shows: one of any size, one of multiples."""
    convs = (node.op for node in network if isinstance(node.op, Conv2d) and node.op.kernel != (1, 1))
    widest = max(LEAST_MAP, *(max(conv.rate) for conv in convs))
    least = output_stride * widest + 1
    step = max(output_stride, 32)
    multiple = -(-least // step) * step
    return _uneven(least, output_stride), (multiple, multiple + step)


def _uneven(least: int, output_stride: int) -> Pair:
    """Return the smallest sides, one odd and one even, such that every strided convolution gets one even side.

    On a map with odd sides, the padding of TensorFlow's SAME is symmetric; only an even side shows the difference.
    Neither side is a multiple of the output stride.
    """
    sides = range(least, least + 4 * output_stride)
    halvings = set(range(output_stride.bit_length() - 1))
    telling = (
        (odd, even)
        for odd in sides[least % 2 == 0 :: 2]
        for even in sides[least % 2 :: 2]
        if even > odd and even % output_stride
        if _evens(odd, output_stride) | _evens(even, output_stride) == halvings
    )
    return min(telling, key=sum)


def _evens(side: int, output_stride: int) -> set[int]:
    """Return the numbers of halvings, rounded up, after which a side is even and is halved again."""
    found = set()
    for halvings in range(output_stride.bit_length() - 1):
        if side % 2 == 0:
            found.add(halvings)
        side = -(-side // 2)
    return found


def _strided(network: Network) -> set[str]:
    """Return the blocks of the backbone that have a convolution with a stride."""
    convs = ((node.path, node.op) for node in network if isinstance(node.op, Conv2d))
    return {block_of(path) for path, op in convs if max(op.stride) > 1 and path.startswith("backbone.")}


def specification(
    request: Request, choices: Choices, output_stride: int, channels: tuple[int, ...] = ()
) -> tuple[Network, Network]:
    """Return the graphs of the whole network and of the judged part, whose inputs may have other channels."""
    judged = judged_part(request, choices, output_stride, channels)
    return (graph(rows(choices, output_stride, request.class_count)) if request.part else judged), judged


def judged_part(request: Request, choices: Choices, output_stride: int, channels: tuple[int, ...] = ()) -> Network:
    """Return the graph of the judged part, whose inputs may have other channels."""
    if request.part is None:
        return graph(rows(choices, output_stride, request.class_count))
    features, low_level, *_ = (*channels, 0, 0)
    reads = {"head": (features, low_level), "aspp": (features, 0), "decoder": (0, low_level)}
    table = rows(choices, output_stride, request.class_count, reads=reads.get(request.part, (0, 0)))
    return part(table, request.part)


def plan(request: Request, output_stride: int, limits: Limits | None = None) -> SpecifiedPlan:
    """Plan a judgement against the specification at one output stride."""
    limits = limits or Limits()
    whole, network = specification(request, request.choices, output_stride, limits.channels)
    return SpecifiedPlan(
        request=request,
        output_stride=output_stride,
        choices=request.choices,
        whole=whole,
        network=network,
        limits=limits,
    )


def against(request: Request, lock: Lock, limits: Limits) -> AgainstPlan:
    """Plan a judgement against another network."""
    return AgainstPlan(
        request=request, output_stride=lock.output_stride, network=for_any_size(lock.normal), limits=limits, lock=lock
    )
