"""Printed figures: what a text such as ``62.7 M`` or ``41,055,413`` says, and how exactly it says it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from deeplab_spec.errors import SpecError


class Quantity(StrEnum):
    """What a figure may count."""

    STORED = "parameters"
    OPERATIONS = "operations"


_ANY: Final = frozenset(Quantity)
_BYTES: Final = ("b", "ib", "byte", "bytes")
_PREFIXES: Final = {"": 0, "k": 1, "m": 2, "g": 3, "b": 3, "t": 4}
_NAMES: Final = {"thousand": 1, "million": 2, "billion": 3, "trillion": 4, **_PREFIXES}
_WORDS: Final = {
    "": _ANY,
    **dict.fromkeys(("param", "params", "parameter", "parameters", "weights", *_BYTES), frozenset({Quantity.STORED})),
    **dict.fromkeys(
        ("mac", "macs", "flop", "flops", "op", "ops", "adds", "madd", "madds", "multadds", "multiplyadds"),
        frozenset({Quantity.OPERATIONS}),
    ),
}
_EXAMPLES: Final = "'62.7 M', '41,055,413', '54.17B', '2.75 GMACs', '239 MB'"
_APART: Final = re.compile(r"(?<!\d),|,(?!\d{3}(?!\d))|[;/|\n]|\band\b")
_PRINTED: Final = re.compile(
    r"[~≈]?\s*(?P<whole>\d{1,3}(?:[,_]\d{3})+|\d+)(?:\.(?P<part>\d+))?"
    r"(?:e\+?(?P<exponent>\d{1,2}))?\s*(?P<unit>[a-z -]*)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number as it is printed somewhere.

    Attributes:
        text: The text.
        number: The printed number, in thousands to the power of ``power``.
        tolerance: Half a unit of the last printed digit.
        power: 2 for millions, 3 for billions.
        digits: Printed digits; zeros at the end of a whole number are not counted in groups of three.
        quantities: What it may count, by the words beside it.
        in_bytes: Whether the words say bytes.
        binary: Whether the words say a unit of 1024, as MiB.
    """

    text: str
    number: float
    tolerance: float
    power: int
    digits: int
    quantities: frozenset[Quantity]
    in_bytes: bool
    binary: bool


def read_figures(text: str) -> tuple[Figure, ...]:
    """Parse printed figures, separated by commas, semicolons, slashes or "and".

    Raises:
        SpecError: If there is none, or one is not a number with a known unit.

    >>> [(figure.number, figure.tolerance, figure.power) for figure in read_figures("62.7 M, 255.1 GFLOPs")]
    [(62.7, 0.05, 2), (255.1, 0.05, 3)]
    >>> read_figures("41,055,413")[0].number
    41055413.0
    """
    figures = tuple(map(_read, _parts(text)))
    if not figures:
        raise SpecError("--explain", "must be printed figures, such as '62.7 M, 255.1 G'", text)
    return figures


def _parts(text: str) -> Iterator[str]:
    yield from filter(None, (part.strip() for part in _APART.split(text)))


def _read(text: str) -> Figure:
    printed = _PRINTED.fullmatch(text)
    unit = _unit(printed["unit"]) if printed else None
    if not printed or unit is None or not re.search("[1-9]", printed["whole"] + (printed["part"] or "")):
        raise SpecError("--explain", f"must be a positive number as in {_EXAMPLES}", text)
    power, word = unit
    whole, part = re.sub("[,_]", "", printed["whole"]), printed["part"] or ""
    exponent = int(printed["exponent"] or 0)
    zeros = _zeros(whole) if not part and not exponent and not power else 0
    return Figure(
        text=text,
        number=float(f"{whole}.{part or 0}e{exponent}"),
        tolerance=0.5 * 10.0 ** (exponent - len(part) + zeros),
        power=power,
        digits=len((whole + part).lstrip("0")) - zeros,
        quantities=_WORDS[word],
        in_bytes=word in _BYTES,
        binary=word == "ib",
    )


def _zeros(whole: str) -> int:
    """Return the zeros at the end of a whole number, in groups of three: ``41,055,000`` is rounded."""
    return (len(whole) - len(whole.rstrip("0"))) // 3 * 3


def _unit(text: str) -> tuple[int, str] | None:
    """Return the power of a thousand and the word of a unit; None if it is not known."""
    letters = re.sub("[ -]", "", text.lower())
    for name, power in sorted(_NAMES.items(), key=lambda entry: len(entry[0])):
        word = letters.removeprefix(name)
        if letters.startswith(name) and word in _WORDS and not (word in _BYTES and name == ""):
            return power, word
    return None
