"""A lock: everything that is recorded about a network, so that later versions can be compared with it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_serializer, field_validator

from deeplab_spec.align.canonical import canonical, canonical_paths
from deeplab_spec.align.counts import node_counts
from deeplab_spec.align.match import Alignment
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.analysis.costs import block_of
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.choices import names, read_overrides, written
from deeplab_spec.spec.variants import variant

Count = Annotated[int, Field(ge=0, le=10**9)]
Shape = tuple[Count, ...]


class Record(BaseModel):
    """A record that stands in the file of a lock as it is; its numbers are bounded."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Result(Record):
    """A tensor that the network returned: its public name, its shape with the batch first, and its dtype."""

    tap: str
    shape: Shape
    dtype: str


class Response(Record):
    """What the network returned for inputs of some shapes and one dtype; no results if it refused them."""

    type: Literal["response"] = "response"
    inputs: tuple[Shape, ...]
    dtype: str
    results: tuple[Result, ...]


class BlockTotals(Record):
    """The cost of one block for one image; ``output`` is the shape of its last value, empty if that is not a map."""

    type: Literal["block"] = "block"
    path: str
    parameters: int
    multiply_adds: int
    output: Shape


class NearestNetwork(Record):
    """The published network nearest to the locked one, and how many differences the choices do not explain.

    The choices are those that differ from the variant's; in the file they stand as ``NAME=VALUE``.
    """

    type: Literal["nearest"] = "nearest"
    variant: Annotated[str, AfterValidator(lambda name: variant(name).name)]
    choices: Mapping[str, Any] = Field(default_factory=dict)
    unexplained: Count = 0

    @field_validator("choices", mode="before")
    @classmethod
    def _chosen(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, list) or "variant" not in info.data:
            return value
        return read_overrides(value, variant(info.data["variant"]).family)

    @field_serializer("choices")
    def _stated(self, choices: Mapping[str, Any]) -> list[str]:
        order = names(variant(self.variant).family)
        return [f"{name}={written(choices[name])}" for name in sorted(choices, key=order.index)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A network as it was when it was locked.

    Attributes:
        target: The target, as the user named it.
        output_stride: The output stride that it was built for.
        classes: Channels of its logits.
        image: Height and width of the image at which the normal form was taken.
        normal: The normal form, under canonical names and in canonical order; its normalisations keep their momentum.
        shared: Nodes whose parameters are those of an earlier node.
        nearest: The nearest published network; None for a different architecture.
        responses: What the network returned for inputs that it accepted and for inputs that it refused.
    """

    target: str
    output_stride: int
    classes: int
    image: Pair
    normal: Shaped
    shared: frozenset[str] = frozenset()
    nearest: NearestNetwork | None = None
    responses: tuple[Response, ...] = ()

    @property
    def blocks(self) -> tuple[BlockTotals, ...]:
        """The cost of every block, in the order of the blocks' first nodes."""
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
        """Trained numbers; a shared parameter counts once."""
        return sum(parameters for _, parameters, _ in self._costs())

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all convolutions, for one image of the locked size."""
        return sum(operations for _, _, operations in self._costs())

    def _costs(self) -> Iterator[tuple[str, int, int]]:
        for path, (parameters, operations) in node_counts(self.normal):
            yield path, 0 if path in self.shared else parameters, operations


def canonical_lock(lock: Lock, alignment: Alignment | None = None, shared: Collection[str] = ()) -> Lock:
    """Return a lock whose nodes have canonical names and stand in canonical order.

    ``alignment`` is as in :func:`canonical`; ``shared`` has the captured paths of nodes whose parameters are those of
    an earlier node.
    """
    paths = canonical_paths(lock.normal.network, alignment)
    names = frozenset(paths[path] for path in shared if path in paths)
    return replace(lock, normal=canonical(lock.normal, alignment), shared=names)
