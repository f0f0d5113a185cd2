"""A lock: everything that a network was when it was locked, so that it can be held to it later."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from deeplab_spec.align.canonical import canonical, canonical_paths
from deeplab_spec.align.counts import node_counts
from deeplab_spec.align.match import Alignment
from deeplab_spec.align.network_at_size import Shaped, Size
from deeplab_spec.analysis.costs import block_of
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.choices import ChoiceValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A tensor that came back.

    Attributes:
        tap: Its public name.
        shape: Its shape, batch first.
        dtype: Its dtype, e.g. ``float32``.
    """

    tap: str
    shape: Size
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the network did with inputs of some shapes.

    Attributes:
        inputs: Shapes of the inputs, batch first.
        dtype: Their dtype.
        results: What came back; nothing if the inputs were refused.
    """

    inputs: tuple[Size, ...]
    dtype: str
    results: tuple[Result, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestNetwork:
    """The published network that a network is nearest to.

    Attributes:
        variant: Its name.
        choices: Decisions on top of it.
        unexplained: How many differences the decisions leave.
    """

    variant: str
    choices: Mapping[str, ChoiceValue] = field(default_factory=dict)
    unexplained: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTotals:
    """What a block of a locked network costs.

    Attributes:
        path: The block.
        parameters: What it stores.
        multiply_adds: Of its convolutions, for one image.
        output: Shape of its last value; empty if that is no map.
    """

    path: str
    parameters: int
    multiply_adds: int
    output: Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A network as it was when it was locked.

    Attributes:
        target: What was locked, as the user named it.
        output_stride: The output stride that it was built for.
        classes: Channels of its logits.
        image: Height and width of the image that its normal form was taken at.
        normal: The normal form, under canonical names and in canonical order; its normalisations have the momentum
            that they were locked with.
        shared: Nodes whose parameters a node before them has already.
        nearest: The published network it is nearest to; None if it is not of the family.
        answers: Inputs that it accepted, and inputs that it refused.
    """

    target: str
    output_stride: int
    classes: int
    image: Pair
    normal: Shaped
    shared: frozenset[str] = frozenset()
    nearest: NearestNetwork | None = None
    answers: tuple[Answer, ...] = ()

    @property
    def blocks(self) -> tuple[BlockTotals, ...]:
        """What every block costs, in the order of the blocks' first nodes."""
        blocks: dict[str, BlockTotals] = {}
        for path, parameters, operations in self._costs():
            name = block_of(path)
            before = blocks.get(name, BlockTotals(path=name, parameters=0, multiply_adds=0, output=()))
            blocks[name] = BlockTotals(
                path=name,
                parameters=before.parameters + parameters,
                multiply_adds=before.multiply_adds + operations,
                output=self.normal.shapes[path],
            )
        return tuple(blocks.values())

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameters for _, parameters, _ in self._costs())

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all convolutions, for one image of the locked size."""
        return sum(operations for _, _, operations in self._costs())

    def _costs(self) -> Iterator[tuple[str, int, int]]:
        for path, (parameters, operations) in node_counts(self.normal):
            yield path, 0 if path in self.shared else parameters, operations


def lock(
    normal: Shaped,
    *,
    target: str,
    output_stride: int,
    classes: int,
    image: Pair,
    alignment: Alignment | None = None,
    shared: Collection[str] = (),
    nearest: NearestNetwork | None = None,
    answers: tuple[Answer, ...] = (),
) -> Lock:
    """Lock a network.

    Args:
        normal: Its normal form.
        target: What the user named.
        output_stride: The output stride that it was built for.
        classes: Channels of its logits.
        image: Height and width of the image that the normal form was taken at.
        alignment: The specification beside the normal form, where it is of the family.
        shared: Paths of nodes whose parameters a node before them has already.
        nearest: The published network it is nearest to.
        answers: Inputs that it accepted, and inputs that it refused.
    """
    paths = canonical_paths(normal.network, alignment)
    return Lock(
        target=target,
        output_stride=output_stride,
        classes=classes,
        image=image,
        normal=canonical(normal, alignment),
        shared=frozenset(paths[path] for path in shared if path in paths),
        nearest=nearest,
        answers=answers,
    )
