"""The elements of a drawing, in pixels from the upper left."""

from dataclasses import dataclass, field

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box with lines of text; a repeated block has copies behind it, and an emphasised one a second outline."""

    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]
    fill: str
    copies: int = 0
    emphasised: bool = False

    @property
    def middle(self) -> float:
        """The horizontal centre."""
        return self.x + self.width / 2

    @property
    def centre(self) -> float:
        """The vertical centre."""
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.y + self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A line through points, with an arrow tip at its end unless ``tip`` is false."""

    points: tuple[Point, ...]
    tip: bool = True
    tap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Text beside a line."""

    x: float
    y: float
    text: str
    style: str = "shape"
    anchor: str = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The background of a part of the network."""

    name: str
    x: float
    y: float
    width: float
    height: float


@dataclass(slots=True, kw_only=True)
class Drawing:
    """A whole drawing."""

    title: str
    captions: tuple[str, ...]
    width: float = 0
    height: float = 0
    panels: list[Panel] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    sums: list[Point] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
