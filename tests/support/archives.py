"""Modified archives, and a payload that leaves a trace if it is executed."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

PROGRAM = "models/model.json"
Members = dict[str, bytes]


def saved(program: ExportedProgram) -> bytes:
    """Return what ``torch.export.save`` writes."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def members_of(content: bytes) -> Members:
    """Return an archive's members by their name below its folder."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def packed(members: Members, folder: str = "archive", method: int = zipfile.ZIP_STORED) -> bytes:
    """Write an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{folder}/{name}" if folder else name, content)
    return buffer.getvalue()


def changed(content: bytes, changes: dict[str, bytes | None]) -> bytes:
    """Return an archive with members replaced or added; None takes one away."""
    members: dict[str, bytes | None] = {**members_of(content), **changes}
    return packed({name: member for name, member in members.items() if member is not None})


def with_text(content: bytes, change: Callable[[Any], object], member: str = PROGRAM) -> bytes:
    """Return an archive with changed JSON."""
    text = json.loads(members_of(content)[member])
    change(text)
    return changed(content, {member: json.dumps(text).encode()})


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        """Return the function to call."""
        return eval, (touching(self.path),)


def touching(path: Path) -> str:
    """Return an expression that creates a file."""
    return f"__import__('pathlib').Path('{path}').touch()"


def torch_saved(value: object) -> bytes:
    """Return what ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def pickled(value: object) -> bytes:
    """Return a bare pickle of the newest protocol."""
    return pickle.dumps(value)
