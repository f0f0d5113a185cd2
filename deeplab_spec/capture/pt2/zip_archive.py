"""Reads untrusted zip archives; every size is checked before anything is read.

Writers of the supported formats store members uncompressed. A compressed member is refused, so the
stated sizes can never exceed the file.
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
    """An archive or one of its members is not accepted; the reason is one line."""


def read_members(file: IO[bytes], size: int) -> Mapping[str, bytes]:
    """Return the content of every member of an archive, of a size in bytes, by name, without the folder that all share.

    Raises:
        ArchiveError: If it is not a zip archive, is damaged or larger than the limits, or has a member
            that is compressed, encrypted, duplicate, overlapping, or named outside the archive.
    """
    if size > MAX_BYTES:
        raise ArchiveError(f"has {size} bytes; at most {MAX_BYTES} are read")
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(members, size)
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
        raise ArchiveError(f"is not a zip archive, or is damaged ({_first_line(error)})") from error


def _check_members(members: Sequence[zipfile.ZipInfo], size: int) -> None:
    if not 0 < len(members) <= MAX_MEMBERS:
        raise ArchiveError(f"has {len(members)} members; there must be 1 to {MAX_MEMBERS}")
    names: set[str] = set()
    for member in members:
        shown = ascii(member.filename[:200])
        parts = member.filename.split("/")
        if not _NAME.fullmatch(member.filename) or ".." in parts or "." in parts:
            raise ArchiveError(f"has a member whose name leads outside the archive: {shown}")
        if member.filename in names:
            raise ArchiveError(f"has a duplicate member: {shown}")
        if member.flag_bits & _ENCRYPTED:
            raise ArchiveError(f"has an encrypted member: {shown}")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ArchiveError(f"has a compressed member, which torch does not write: {shown}")
        names.add(member.filename)
    places = sorted(members, key=lambda member: member.header_offset)
    if places[0].header_offset:
        raise ArchiveError("is not a zip archive, or is damaged (it begins with something else)")
    end = 0
    for member in places:
        if member.header_offset < end:
            raise ArchiveError(f"has overlapping members: {member.filename[:200]!a}")
        end = member.header_offset + _HEADER + len(member.filename.encode()) + member.file_size
    if end > size:
        raise ArchiveError(f"states {end} bytes, but the file has {size}")


def _first_line(error: BaseException) -> str:
    return ascii(str(error).partition("\n")[0][:200])[1:-1] or type(error).__name__
