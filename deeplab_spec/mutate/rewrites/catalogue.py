"""The catalogue of equal networks: published networks written in other ways, all of which must be accepted.

Each is a record with an id that says what it is: ``tf-release/8/padding/border apart``. What makes it
starts from the specification's graph, or from the reference, with drawn weights.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.mutate.rewrites.kinds import KINDS, Way

OUTPUT_STRIDES: Final = (16, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """An equal network.

    Attributes:
        kind: What is written in another way.
        name: How.
        variant: The published network that it is.
        output_stride: Input pixels per pixel of the backbone's features.
        way: What makes it, and what may be expected of it.
    """

    kind: str
    name: str
    variant: str
    output_stride: int
    way: Way

    @property
    def id(self) -> str:
        """What names it, in reports and between processes."""
        return f"{self.variant}/{self.output_stride}/{self.kind}/{self.name}"


@cache
def rewrites() -> tuple[Rewrite, ...]:
    """Return every rewrite: each way, of each published network that it applies to, at each output stride."""
    return tuple(
        Rewrite(kind=kind, name=name, variant=variant, output_stride=output_stride, way=way)
        for kind, ways in KINDS.items()
        for name, way in ways.items()
        for variant in way.variants
        for output_stride in OUTPUT_STRIDES
    )


def rewrite(name: str) -> Rewrite:
    """Return a rewrite by its id.

    Raises:
        SpecError: If there is none.
    """
    for one in rewrites():
        if one.id == name:
            return one
    raise SpecError("rewrite", "must be the id of a rewrite, as variant/output stride/kind/name", name)
