"""Checks a ``.pt2`` file, as ``torch.export.save`` writes it, before anything is loaded from it.

The file is untrusted input. It is read once, and only the checked content is loaded afterwards. Nothing
is unpickled: a pickle names every function that it would call, so a pickle that would call more than
the functions that rebuild plain tensors is refused.
"""

import io
import json
import pickletools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, Final

from deeplab_spec.capture.pt2.program_json import CPU, sanitised
from deeplab_spec.capture.pt2.zip_archive import ArchiveError, read_members
from deeplab_spec.errors import TargetError

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
"""Functions and classes that rebuild plain tensors and containers of them."""

_BY_NAME: Final = frozenset({"GLOBAL", "INST"})
_UNNAMED: Final = frozenset({"STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"})
"""Opcodes that call something without naming it in their argument; no writer of tensors uses the last six."""


def first_foreign_call(payload: bytes) -> str | None:
    """Return the first function beyond plain tensors that a ``torch.save`` payload would call; None if there is none.

    Raises:
        ArchiveError: If ``torch.save`` does not write such a payload, or it is damaged.
    """
    if not payload.startswith(b"PK"):
        call = next(_foreign_calls(payload), None)
        if call is None:
            raise ArchiveError("is not an archive of torch.save")
        return call
    members = read_members(io.BytesIO(payload), len(payload))
    if [member for member in members if member.endswith(".pkl")] != ["data.pkl"]:
        raise ArchiveError("is not an archive of torch.save")
    return next(_foreign_calls(members["data.pkl"]), None)


def _foreign_calls(pickled: bytes) -> Iterator[str]:
    """Yield the functions beyond plain tensors that a pickle would call, in order."""
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name in _BY_NAME:
                target = str(argument).replace(" ", ".", 1)
                if target not in PLAIN:
                    yield target
            elif opcode.name in _UNNAMED:
                yield ".".join(texts[-2:]) or opcode.name
            elif isinstance(argument, str):
                texts.append(argument)
    except (ValueError, UnicodeError, OverflowError, MemoryError, RecursionError) as error:
        raise ArchiveError("is not a pickle, or is damaged") from error


PROGRAM: Final = "models/model.json"
WEIGHTS: Final = "data/weights/model_weights_config.json"
CONSTANTS: Final = "data/constants/model_constants_config.json"
_SAMPLE_INPUTS: Final = "data/sample_inputs/model.pt"
_FORMAT: Final = {"archive_format": b"pt2", "archive_version": b"0", ".data/version": b"6\n"}
"""The members that identify the format."""

_OLD_WEIGHTS: Final = "data/weights/model.pt"
_OLD_CONSTANTS: Final = "data/constants/model.pt"
_PICKLED: Final = (_SAMPLE_INPUTS, _OLD_WEIGHTS, _OLD_CONSTANTS)
_OLD_LAYOUT: Final = "serialized_exported_program.json"
_SCHEMA: Final = 8
_MAX_TEXT: Final = 256 << 20
_IGNORED: Final = re.compile(r"\.data/.*|extra/.*|byteorder|version|archive_format|archive_version")
_PAYLOAD: Final = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_OBJECT: Final = re.compile(r"data/constants/(custom|opaque)_obj_\d+")
_NAME: Final = re.compile(r"[\w.:/+ @-]{1,500}")
_VERSION: Final = re.compile(r"[\w.+-]{1,40}", re.ASCII)
_ITEM_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2}
"""Bytes of an element by the format's number of its type."""


def check_pt2(path: Path, name: str) -> dict[str, Any]:
    """Read a file and check it; return the members of a copy that may be loaded.

    The program and the tables of its tensors are parsed, and without parts that the graph does not need; others are
    bytes.

    Raises:
        TargetError: If it is not an exported program, has the layout of another version of torch, is
            damaged, is larger than the limits, or would execute code.
    """
    try:
        with path.open("rb") as file:
            members = read_members(file, path.stat().st_size)
        return _checked(members)
    except OSError as error:
        raise TargetError(name, f"cannot be read: {error.strerror or type(error).__name__}") from error
    except ArchiveError as error:
        raise TargetError(name, str(error)) from error


def _checked(members: Mapping[str, bytes]) -> dict[str, Any]:
    _check_layout(members)
    for member in members:
        _check_kind(member)
    text = _parsed(members, PROGRAM)
    version = text.get("schema_version") if isinstance(text, dict) else None
    if not isinstance(version, dict):
        raise ArchiveError(f"{PROGRAM} is not an exported program: it has no version")
    if version.get("major") != _SCHEMA:
        raise _other_layout(members, PROGRAM)
    for member in _PICKLED:
        if members.get(member):
            _check_pickle(member, members[member])
    with _named(PROGRAM):
        texts = {PROGRAM: sanitised(text)}
    for table, folder, old in ((WEIGHTS, "data/weights", _OLD_WEIGHTS), (CONSTANTS, "data/constants", _OLD_CONSTANTS)):
        if old not in members:
            texts[table] = _table(members, table, folder)
    payloads = {member: content for member, content in members.items() if _is_payload(member)}
    return {**_FORMAT, _SAMPLE_INPUTS: b"", **texts, **payloads}


def _check_layout(members: Mapping[str, bytes]) -> None:
    if _OLD_LAYOUT in members:
        raise _other_layout(members, _OLD_LAYOUT)
    if "constants.pkl" in members or any(member.startswith("code/") for member in members):
        raise ArchiveError("is an archive of TorchScript, not an exported program")
    if members.get("archive_format") != _FORMAT["archive_format"]:
        raise ArchiveError("is a zip archive, but not an exported program (torch.export.save writes those)")
    if members.get("archive_version") != _FORMAT["archive_version"]:
        raise _other_layout(members, PROGRAM)
    if members.get("byteorder", b"little") != b"little":
        raise ArchiveError("was written on a machine of another byte order; export it on this one")
    programs = [member for member in members if member.startswith("models/")]
    if programs != [PROGRAM]:
        raise ArchiveError(f"must hold one program, {PROGRAM}, but holds {len(programs)}, or one of another name")


def _check_kind(member: str) -> None:
    if member.startswith("data/aotinductor/"):
        raise ArchiveError("holds a compiled library; files that execute code are refused")
    if _OBJECT.fullmatch(member):
        raise ArchiveError(f"{member} holds an object beyond tensors; files that execute code are refused")
    known = member in (PROGRAM, WEIGHTS, CONSTANTS, _SAMPLE_INPUTS)
    if not known and not _is_payload(member) and not _IGNORED.fullmatch(member):
        raise ArchiveError(f"has a member that exported programs do not have: {member[:200]!a}")


def _is_payload(member: str) -> bool:
    return member in (_OLD_WEIGHTS, _OLD_CONSTANTS) or bool(_PAYLOAD.fullmatch(member))


def _parsed(members: Mapping[str, bytes], member: str) -> Any:  # noqa: ANN401 - parsed JSON
    if member not in members:
        raise ArchiveError(f"has no {member}")
    content = members[member]
    if len(content) > _MAX_TEXT:
        raise ArchiveError(f"{member} has {len(content)} bytes; at most {_MAX_TEXT} are read")
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{member} is not JSON, or is damaged") from error


def _other_layout(members: Mapping[str, bytes], member: str) -> ArchiveError:
    """Return the error that another version of torch wrote the file, which a member may state."""
    try:
        text = _parsed(members, member)
    except ArchiveError:
        text = None
    stated = text.get("torch_version") if isinstance(text, dict) else None
    version = stated if isinstance(stated, str) and _VERSION.fullmatch(stated) else "of an unknown version"
    return ArchiveError(f"written by torch {version} in another layout; export it again")


def _check_pickle(member: str, payload: bytes) -> None:
    with _named(member):
        target = first_foreign_call(payload)
    if target is not None:
        shown = ascii(target[:200])[1:-1]
        raise ArchiveError(f"{member} holds a pickle that would call {shown}; files that execute code are refused")


@contextmanager
def _named(member: str) -> Iterator[None]:
    """Begin an error with the member's name."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{member} {error}") from error


def _table(members: Mapping[str, bytes], table: str, folder: str) -> dict[str, Any]:
    """Return a table of tensors, moved to the CPU, after checking that every member exists and is large enough."""
    parsed = _parsed(members, table)
    entries = parsed.get("config") if isinstance(parsed, dict) else None
    if not isinstance(entries, dict):
        raise ArchiveError(f"{table} has no table of tensors")
    for name, entry in entries.items():
        member = f"{folder}/{entry.get('path_name')}" if isinstance(entry, dict) else ""
        if not _NAME.fullmatch(name) or member not in members or not _PAYLOAD.fullmatch(member):
            raise ArchiveError(f"{table} has no member for {name[:200]!a}")
        meta = entry.get("tensor_meta")
        if entry.get("use_pickle"):
            _check_pickle(member, members[member])
        elif not _fits(meta, len(members[member])):
            raise ArchiveError(f"{member} does not hold the tensor that the table states: {name[:200]!a}")
        if isinstance(meta, dict):
            meta["device"] = dict(CPU)
    return {"config": entries}


def _fits(meta: object, size: int) -> bool:
    """Tell whether a member is large enough for its tensor, whose sides must be numbers."""
    try:
        each, sides = _ITEM_BYTES[meta["dtype"]], [side["as_int"] for side in meta["sizes"]]  # type: ignore[index]
    except (KeyError, TypeError):
        return False
    return all(isinstance(side, int) and side >= 0 for side in sides) and each * prod(sides) <= size
