"""The modes that the gate can time, and what they were called in earlier releases."""

from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.measure.parts import EAGER, OLD_PARTS
from deeplab_spec.precision import AUTOCAST_BFLOAT16, AUTOCAST_FLOAT16, TF32, renamed

CHANNELS_LAST: Final = "channels_last"
FOLDED: Final = "folded"

MODES: Final = (EAGER, CHANNELS_LAST, FOLDED, "compiled", TF32.name, AUTOCAST_BFLOAT16.name, AUTOCAST_FLOAT16.name)
"""What a mode is made of; several are joined by ``+``."""


def read_mode(text: str, where: str = "--mode") -> str:
    """Return a mode with today's names; an old name is accepted, with a warning that says the new one.

    Args:
        text: Parts joined by ``+``.
        where: The option that it was given to, for the error.

    Raises:
        SpecError: If a part does not exist.

    >>> read_mode("channels_last+tf32")
    'channels_last+tf32'
    """
    parts = [renamed(part, OLD_PARTS) for part in text.split("+")]
    if set(parts) - set(MODES):
        raise SpecError(where, f"must be of {', '.join(MODES)}, joined by +", text)
    return "+".join(parts)
