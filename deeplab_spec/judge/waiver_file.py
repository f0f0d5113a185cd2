"""Reads waivers from a TOML file, and refuses what a reader could misunderstand."""

import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from deeplab_spec.errors import SpecError, one_line
from deeplab_spec.judge.waivers import Waiver, Waivers

_TABLE: Final = "waiver"
_KEYS: Final = {"clause": str, "node": str, "reason": str, "expires": date}


def load(path: Path, today: date | None = None) -> Waivers:
    """Read a file of waivers.

    Args:
        path: The file.
        today: The day on which they are held against their expiry; by default the present one, in UTC.

    Raises:
        SpecError: If it cannot be read, holds anything else, or one of them has expired.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(str(path), "must be a file of waivers that can be read", error.strerror) from error
    except UnicodeDecodeError as error:
        raise SpecError(str(path), "must be UTF-8", one_line(error)) from error
    return Waivers(entries=read(text, str(path)), today=today or datetime.now(tz=UTC).date())


def read(text: str, name: str) -> tuple[Waiver, ...]:
    """Read the text of such a file.

    Args:
        text: Tables ``[[waiver]]``, each with clause, node, reason and expires.
        name: Name of the file, for messages.

    Raises:
        SpecError: If it is no TOML, or holds anything else.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(name, "must be TOML", one_line(error)) from error
    tables = document.pop(_TABLE, [])
    if document or not isinstance(tables, list):
        raise SpecError(name, f"must hold tables [[{_TABLE}]] only", ", ".join(document) or _TABLE)
    if not tables:
        raise SpecError(name, f"must hold a table [[{_TABLE}]]", "none")
    return tuple(_waiver(table, f"{name}: waiver {number}") for number, table in enumerate(tables, 1))


def _waiver(table: object, where: str) -> Waiver:
    if not isinstance(table, dict):
        raise SpecError(where, "must be a table", table)
    if table.keys() != _KEYS.keys():
        raise SpecError(where, f"must have the keys {', '.join(_KEYS)}", ", ".join(map(str, table)))
    for key, kind in _KEYS.items():
        if type(table[key]) is not kind:  # a time of day is a date to Python, and no day
            wanted = "a day, as 2027-01-31" if kind is date else "text"
            raise SpecError(where, f"{key} must be {wanted}", table[key])
    return Waiver(where=where, **table)
