"""Says what a file's pickles would call, without unpickling anything.

``torch.save`` writes a zip archive with one pickle in it. A pickle names every function that it
would call; those that rebuild plain tensors are known, and any other executes code.
"""

import io
import pickletools
from collections.abc import Iterator
from typing import Final

from deeplab_spec.capture.pt2.zip_archive import ArchiveError, read_stored

PLAIN: Final = frozenset(
    {
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch.serialization._get_layout",
        "torch.storage.TypedStorage",
        "torch.storage.UntypedStorage",
        *(f"torch.{kind}Storage" for kind in ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int")),
        *(f"torch.{kind}Storage" for kind in ("Long", "Short", "ComplexDouble", "ComplexFloat")),
        *(f"torch.{kind}" for kind in ("bfloat16", "bool", "complex64", "complex128", "float16", "float32", "float64")),
        *(f"torch.{kind}" for kind in ("int8", "int16", "int32", "int64", "uint8")),
    }
)
"""What plain tensors, and containers of them, are rebuilt with."""

_BY_NAME: Final = frozenset({"GLOBAL", "INST"})
_OTHERWISE: Final = frozenset({"STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"})
"""How later protocols, or no writer of tensors, name what is called."""


def foreign_call(payload: bytes) -> str | None:
    """Return the first function beyond plain tensors that loading a payload would call; None if there is none.

    Args:
        payload: What ``torch.save`` wrote.

    Raises:
        ArchiveError: If it is nothing that ``torch.save`` writes, or is damaged.
    """
    if not payload.startswith(b"PK"):
        found = next(_foreign(payload), None)
        if found is None:
            raise ArchiveError("is no archive of torch.save")
        return found
    members = read_stored(io.BytesIO(payload), len(payload))
    pickles = [content for member, content in members.items() if member.endswith(".pkl")]
    if [member for member in members if member.endswith(".pkl")] != ["data.pkl"]:
        raise ArchiveError("is no archive of torch.save")
    return next((target for content in pickles for target in _foreign(content)), None)


def _foreign(pickled: bytes) -> Iterator[str]:
    """Name what a pickle calls beyond plain tensors, in its order."""
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name in _BY_NAME:
                target = str(argument).replace(" ", ".", 1)
                if target not in PLAIN:
                    yield target
            elif opcode.name in _OTHERWISE:
                yield ".".join(texts[-2:]) or opcode.name
            elif isinstance(argument, str):
                texts.append(argument)
    except (ValueError, UnicodeError, OverflowError, MemoryError, RecursionError) as error:
        raise ArchiveError("is no pickle, or a damaged one") from error
