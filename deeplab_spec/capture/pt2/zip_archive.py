"""Reads zip archives that others wrote, with every size checked before anything is read.

The writers of this package's formats store members as they are. So a compressed member is refused,
and what an archive states can never be more than the file has.
"""

import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import IO, Final

MAX_BYTES: Final = 4 << 30
"""Largest archive that is read: more than ten times this network in float64."""
MAX_MEMBERS: Final = 50_000

_HEADER: Final = 30
_ENCRYPTED: Final = 0x1
_NAME: Final = re.compile(r"[\w.+@ -]+(/[\w.+@ -]+)*")


class ArchiveError(Exception):
    """An archive, or a member of it, is not as its writer makes it; one line says why."""


def read_stored(file: IO[bytes], size: int) -> Mapping[str, bytes]:
    """Return the content of every member of an archive by its name, below the folder that all are in.

    Args:
        file: The archive.
        size: Its size in bytes.

    Raises:
        ArchiveError: If it is no zip archive, is damaged, is larger than the limits, has members that
            are compressed, encrypted, of names that lead elsewhere, twice there or laid over each other.
    """
    if size > MAX_BYTES:
        raise ArchiveError(f"has {size} bytes; at most {MAX_BYTES} are read")
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check(members, size)
            folder = f"{members[0].filename.partition('/')[0]}/"
            inside = all(member.filename.startswith(folder) for member in members)
            start = len(folder) if inside else 0
            return {member.filename[start:]: archive.read(member) for member in members}
    except (
        zipfile.BadZipFile,
        EOFError,
        OSError,
        NotImplementedError,
        ValueError,
        RuntimeError,
        struct.error,
    ) as error:
        raise ArchiveError(f"is no zip archive, or a damaged one ({_first_line(error)})") from error


def _check(members: Sequence[zipfile.ZipInfo], size: int) -> None:
    if not 0 < len(members) <= MAX_MEMBERS:
        raise ArchiveError(f"has {len(members)} members; there must be 1 to {MAX_MEMBERS}")
    names: set[str] = set()
    for member in members:
        shown = ascii(member.filename[:200])
        parts = member.filename.split("/")
        if not _NAME.fullmatch(member.filename) or ".." in parts or "." in parts:
            raise ArchiveError(f"has a member with a name that leads elsewhere: {shown}")
        if member.filename in names:
            raise ArchiveError(f"has a member twice: {shown}")
        if member.flag_bits & _ENCRYPTED:
            raise ArchiveError(f"has an encrypted member: {shown}")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ArchiveError(f"has a member that is not stored as it is, as torch stores them: {shown}")
        names.add(member.filename)
    places = sorted(members, key=lambda member: member.header_offset)
    if places[0].header_offset:
        raise ArchiveError("is no zip archive, or a damaged one (it begins with something else)")
    end = 0
    for member in places:
        if member.header_offset < end:
            raise ArchiveError(f"has members laid over each other: {member.filename[:200]!a}")
        end = member.header_offset + _HEADER + len(member.filename.encode()) + member.file_size
    if end > size:
        raise ArchiveError(f"states {end} bytes, but the file has {size}")


def _first_line(error: BaseException) -> str:
    return ascii(str(error).partition("\n")[0][:200])[1:-1] or type(error).__name__
