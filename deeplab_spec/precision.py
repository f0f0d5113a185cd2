"""The precisions in which a network runs: one record and one name each, for every command and report.

In ``bfloat16`` the weights and the input are cast, so that every operation computes in bfloat16. In
``autocast-bfloat16`` the weights stay in float32, and the framework's automatic mixed precision casts the
operations that gain from it. The two differ in speed and in error.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from deeplab_spec.errors import RenamedWarning, SpecError

_ARITHMETIC: Final = {
    "float64": (8, 52, 1.7976931348623157e308),
    "float32": (4, 23, 3.4028234663852886e38),
    "tf32": (4, 10, 3.4028234663852886e38),
    "bfloat16": (2, 7, 3.3895313892515355e38),
    "float16": (2, 10, 65504.0),
}
"""Bytes in memory, bits of the mantissa without the leading one, and the largest finite number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """A precision: the dtypes of weights and of products.

    Attributes:
        name: Its name on the command line, in modes, documents and reports.
        does: A description in a few words.
    """

    name: str
    does: str

    @property
    def autocast(self) -> bool:
        """Whether it is automatic mixed precision."""
        return self.name.startswith("autocast-")

    @property
    def storage(self) -> str:
        """Name of the dtype of the network's weights.

        >>> BFLOAT16.storage, AUTOCAST_BFLOAT16.storage, TF32.storage
        ('bfloat16', 'float32', 'float32')
        """
        return "float32" if self.autocast or self.name == "tf32" else self.name

    @property
    def arithmetic(self) -> str:
        """Name of the dtype of the factors of convolutions and matrix products; no tensor is ``tf32``."""
        return self.name.removeprefix("autocast-")

    @property
    def bits(self) -> int:
        """Bits of a factor's mantissa, without the leading one."""
        return _ARITHMETIC[self.arithmetic][1]

    @property
    def largest(self) -> float:
        """The largest finite number of the results."""
        return _ARITHMETIC[self.arithmetic][2]

    @property
    def eps(self) -> float:
        """The distance from 1 to the next value of a factor.

        >>> BFLOAT16.eps
        0.0078125
        """
        return 2.0**-self.bits

    @property
    def bytes(self) -> int:
        """Bytes of a number in memory."""
        return _ARITHMETIC[self.arithmetic][0]


FLOAT64: Final = Precision(name="float64", does="every operation in float64")
FLOAT32: Final = Precision(name="float32", does="every operation in IEEE float32")
TF32: Final = Precision(name="tf32", does="factors of products rounded to TF32")
BFLOAT16: Final = Precision(name="bfloat16", does="weights and input cast to bfloat16")
FLOAT16: Final = Precision(name="float16", does="weights and input cast to float16")
AUTOCAST_BFLOAT16: Final = Precision(name="autocast-bfloat16", does="automatic mixed precision with bfloat16")
AUTOCAST_FLOAT16: Final = Precision(name="autocast-float16", does="automatic mixed precision with float16")

PRECISIONS: Final = (FLOAT64, FLOAT32, TF32, BFLOAT16, FLOAT16, AUTOCAST_BFLOAT16, AUTOCAST_FLOAT16)
NAMES: Final = tuple(each.name for each in PRECISIONS)

LOWER: Final = PRECISIONS[2:]
"""Precisions with fewer bits than float32: an error in them is compared with that of the specification."""

RATIO_LIMIT: Final = 3.0
"""The candidate's error may be at most this many times the reference's error in the same precision.

Correct rewrites of whole networks stay below 1.7 in float32, in TF32 and in mixed precision; the closest fault was at
4.6. Where every tensor is cast, a normalisation that is written out rounds after each of its operations: one written
as a factor and a shift was at 5.2 in float16, which is an error of that network in that precision."""

OLD_NAMES: Final[Mapping[str, str]] = {
    "bf16": AUTOCAST_BFLOAT16.name,
    "fp16": AUTOCAST_FLOAT16.name,
    "amp_bf16": AUTOCAST_BFLOAT16.name,
    "amp_fp16": AUTOCAST_FLOAT16.name,
}
"""Today's names by those of earlier releases."""


def read_precision(text: str, where: str = "precision") -> Precision:
    """Return the precision with a name; an old name is accepted, with a warning that names the new one.

    Args:
        text: The name.
        where: The argument or option, for the error.

    Raises:
        SpecError: If there is no such precision.

    >>> read_precision("tf32").eps == 2**-10
    True
    """
    name = renamed(text, OLD_NAMES)
    for each in PRECISIONS:
        if each.name == name:
            return each
    raise SpecError(where, f"must be one of {', '.join(NAMES)}", text)


def renamed(name: str, old_names: Mapping[str, str]) -> str:
    """Return today's name for a name that may be an old one; an old one warns."""
    if name not in old_names:
        return name
    new = old_names[name]
    warnings.warn(f"{name!r} is now called {new!r}", RenamedWarning, stacklevel=3)
    return new
