"""The axes along which published figures differ, as data: every value with how unusual it is.

A fit's rank is the sum of its values' ranks; 0 is what ``count`` prints by itself. An axis grows by a row here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from typing import Final

from deeplab_spec.analysis.conventions import FULL, FVCORE, MAC, TFPROF, TORCH, Convention
from deeplab_spec.analysis.counters import COUNTERS
from deeplab_spec.analysis.protocol import MULTI_SCALE, SINGLE, Protocol
from deeplab_spec.analysis.published import TOLERANCE
from deeplab_spec.count.explain.figures import Quantity
from deeplab_spec.graph.ops import Pair


class Group(StrEnum):
    """A group of nodes that a figure may leave out."""

    BACKBONE = "backbone"
    HEAD = "head"
    AUXILIARY = "auxiliary head"
    LOGITS = "logits layer"
    UNUSED = "parameters that no operation uses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """A way of counting operations.

    Attributes:
        convention: What counts as one operation.
        factor: 2 if the figure has two operations for each that the convention counts.
        unusual: Its rank.
        uncertainty: Relative error of the convention itself; 0 if it is exact.
    """

    convention: Convention
    factor: int = 1
    unusual: int = 1
    uncertainty: float = 0.0

    @property
    def name(self) -> str:
        """The convention, and the factor if there is one."""
        return f"twice {self.convention.name}" if self.factor > 1 else self.convention.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What a printed unit may stand for.

    Attributes:
        name: The unit in words; empty for plain numbers.
        each: How many of it one counted number is.
        thousand: Its step from kilo to mega.
        in_bytes: Whether the words beside a figure may say bytes.
    """

    name: str = ""
    each: int = 1
    thousand: int = 1000
    in_bytes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The part of a network that a figure counts."""

    name: str
    groups: frozenset[Group]
    unusual: int


# fmt: off
COUNTINGS: Final = (
    Counting(convention=MAC, unusual=0),
    Counting(convention=TORCH),
    Counting(convention=FVCORE),
    Counting(convention=TFPROF, uncertainty=TOLERANCE),
    Counting(convention=FULL),
    *(Counting(convention=counter) for counter in COUNTERS),
    Counting(convention=TFPROF, factor=2, unusual=2, uncertainty=TOLERANCE),
    *(Counting(convention=counter, factor=2, unusual=2) for counter in (FVCORE, *COUNTERS)),
)
UNITS: Final = (
    Unit(),
    Unit(name="MB of float32", each=4, in_bytes=True),
    Unit(name="MiB of float32", each=4, thousand=1024, in_bytes=True),
)
FORMS: Final = {"parameters": 0, "parameters and running statistics": 1, "parameters with normalisations folded": 1}

_USUAL_SIZES: Final = ((513, 513), (512, 512))
_SQUARES: Final = (
    224, 256, 257, 299, 300, 320, 321, 384, 385, 400, 416, 448, 473, 480, 500, 520, 576, 600, 640, 713, 768, 769, 800,
    1024, 1025,
)
_OBLONGS: Final = (
    (360, 480), (480, 640), (512, 1024), (513, 1025), (540, 960), (720, 960), (720, 1280), (768, 1536), (769, 1537),
    (1024, 2048), (1025, 2049), (1080, 1920),
)
SIZES: Final[dict[Pair, int]] = {
    **dict.fromkeys(_USUAL_SIZES, 0),
    **dict.fromkeys([*((side, side) for side in _SQUARES), *_OBLONGS], 1),
}
CLASSES: Final[dict[int, int]] = {
    21: 0,
    **dict.fromkeys((1, 2, 8, 11, 12, 19, 20, 32, 34, 59, 60, 80, 81, 91, 133, 150, 151, 171, 182), 1),
}
OUTPUT_STRIDES: Final[dict[int, int]] = {16: 0, 8: 0, 32: 1, 4: 1}
_THREE: Final = tuple(Fraction(quarters, 4) for quarters in (3, 4, 5))
PROTOCOLS: Final[dict[Protocol, int]] = {
    SINGLE: 0,
    Protocol(flip=True): 2,
    Protocol(scales=MULTI_SCALE): 2,
    Protocol(scales=MULTI_SCALE, flip=True): 2,
    Protocol(scales=_THREE): 3,
    Protocol(scales=_THREE, flip=True): 3,
}
CHOICES: Final = ("decoder", "auxiliary")
"""Choices of a published network that a figure's caption may leave out; those that a network lacks are left out."""
_REMOVABLE: Final = {
    Quantity.STORED: (Group.AUXILIARY, Group.LOGITS, Group.UNUSED),
    Quantity.OPERATIONS: (Group.AUXILIARY,),
}
# fmt: on
_BACKBONE: Final = frozenset({Group.BACKBONE})


def views(groups: Sequence[Group], quantity: Quantity) -> Iterator[View]:
    """Yield the parts of a network that a figure may count: all of it, without some groups, the backbone alone."""
    counted = frozenset(groups) if quantity is Quantity.STORED else frozenset(groups) - {Group.UNUSED}
    removable = [group for group in _REMOVABLE[quantity] if group in counted]
    for number in range(len(removable) + 1):
        for removed in combinations(removable, number):
            name = f"without the {' and the '.join(removed)}" if removed else ""
            yield View(name=name, groups=counted - set(removed), unusual=number)
    if counted > _BACKBONE:
        yield View(name="the backbone alone", groups=_BACKBONE, unusual=1)


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The values to try; an axis that the user fixed has one.

    Attributes:
        sizes: Height and width of the image, with ranks.
        classes: Numbers of classes, with ranks.
        protocols: Scales and mirrored images, with ranks.
        countings: Ways of counting operations.
        fixed_classes: Whether a network's own number of classes is not tried beside these.
    """

    sizes: dict[Pair, int] = field(default_factory=lambda: dict(SIZES))
    classes: dict[int, int] = field(default_factory=lambda: dict(CLASSES))
    protocols: dict[Protocol, int] = field(default_factory=lambda: dict(PROTOCOLS))
    countings: tuple[Counting, ...] = COUNTINGS
    fixed_classes: bool = False

    @property
    def conventions(self) -> tuple[Convention, ...]:
        """The conventions of all countings."""
        return tuple(dict.fromkeys(counting.convention for counting in self.countings))

    @cached_property
    def by_convention(self) -> dict[str, tuple[Counting, ...]]:
        """The countings of every convention, by its name."""
        return {
            convention.name: tuple(counting for counting in self.countings if counting.convention is convention)
            for convention in self.conventions
        }

    def classes_of(self, own: int) -> tuple[int, ...]:
        """Return the numbers of classes to try for a network of some classes; 0 if they cannot be changed."""
        if not own:
            return (own,)
        return tuple(self.classes) if self.fixed_classes else tuple(dict.fromkeys((own, *self.classes)))
