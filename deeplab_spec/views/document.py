"""Documents and files: the base of every JSON document, its text, and how a file is written.

The form of a document is stable: fields may be added, and ``schema_version`` grows when a field
changes its meaning or is removed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from deeplab_spec.errors import SpecError, TargetError

Kind = TypeVar("Kind")
Json = dict[str, Any]
"""A JSON object."""


class Model(BaseModel):
    """A part of a document: it cannot be changed, and has no fields but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sparse(Model):
    """A part of a document in which some fields are left out while they are empty: earlier documents stay as they are.

    Attributes:
        left_out: Their names.
    """

    left_out: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: SerializerFunctionWrapHandler) -> Json:
        found: Json = serialize(self)
        return {name: value for name, value in found.items() if value or name not in self.left_out}


class Document(Model):
    """A whole document, in the first version of its schema."""

    schema_version: Literal[1] = 1


def to_json(document: BaseModel) -> str:
    """Return a document as text; a list of nodes that is null is left out."""
    return document.model_dump_json(indent=2, exclude={"nodes"} if getattr(document, "nodes", ()) is None else None)


def to_schema(document: type[BaseModel]) -> str:
    """Return the JSON Schema of a document."""
    return json.dumps(document.model_json_schema(), indent=2)


def canonical(document: object) -> str:
    """Return JSON in its one form: sorted names, no spaces, no line break.

    >>> canonical({"b": [1, 2.5], "a": None})
    '{"a":null,"b":[1,2.5]}'
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write or replace a file atomically, text as UTF-8; an error leaves the previous content.

    A link stays, and the file that it names is written; a device or a pipe is written to and not replaced.

    Raises:
        TargetError: If it cannot be written.
    """
    part = None
    data = content.encode() if isinstance(content, str) else content
    try:
        path = path.resolve()
        if path.exists() and not path.is_file():
            with path.open("wb", buffering=0) as stream:
                stream.write(data)
            return
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            part = Path(file.name)
            file.write(data)
        part.chmod(path.stat().st_mode if path.exists() else 0o666 & ~_umask())
        part.replace(path)
        part = None
    except OSError as error:
        raise TargetError(str(path), f"cannot be written: {error.strerror}") from error
    finally:
        if part:
            part.unlink(missing_ok=True)


def writer_of(file: Path | None, forms: Mapping[str, Callable[[Kind], str]], *, as_json: bool) -> Callable[[Kind], str]:
    """Return what writes a document to a file, by its suffix; stdout, a device or a pipe gets the text.

    Args:
        file: The file; None for stdout.
        forms: What writes each form, by suffix; ``.txt`` is the text, ``.json`` the JSON document.
        as_json: Whether JSON is asked for.

    Raises:
        SpecError: If the suffix names no form, or another one than JSON where that is asked for.
    """
    special = file is None or (file.exists() and not file.is_file())
    suffix = ".txt" if special or file is None else file.suffix.lower()
    if as_json and (special or forms.get(suffix) in {None, forms[".json"]}):
        return forms[".json"]
    if as_json or suffix not in forms:
        rule = "must end in .json with --json" if as_json else f"must end in {', '.join(forms)}"
        raise SpecError("--output", rule, str(file))
    return forms[suffix]


def read_bounded(path: Path, most: int) -> bytes:
    """Read a file that another program wrote; a device or a pipe, which may have no end, is not opened.

    Raises:
        TargetError: If it is no file, is larger, or cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise TargetError(str(path), "is not a file")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise TargetError(str(path), f"cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise TargetError(str(path), f"is larger than {most:,} bytes")
    return content


_REMOVES: Final = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"
"""A program that removes a folder when the process that holds its stdin open closes it, or ends."""


@contextmanager
def temporary_folder(within: Path | None = None) -> Iterator[Path]:
    """Make a folder and remove it at the end, also when this process is killed: another process waits for that."""
    folder = tempfile.mkdtemp(dir=within, prefix="." if within else "deeplab-spec-")
    try:
        command = [sys.executable, "-I", "-S", "-c", _REMOVES, folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
            yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # if that process could not


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        TargetError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TargetError(str(path), f"cannot be read: {error.strerror}") from error


@contextmanager
def written_together(directory: Path) -> Iterator[Path]:
    """Give an empty folder; the files written there replace those of a directory together, at the end.

    An error leaves the directory as it was, also where there was none.

    Raises:
        TargetError: If a file cannot be written.
    """
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with temporary_folder(directory) as scratch:
            yield scratch
            for file in sorted(path for path in scratch.rglob("*") if path.is_file()):
                place = directory / file.relative_to(scratch)
                place.parent.mkdir(exist_ok=True)
                file.replace(place)
    except OSError as error:
        raise TargetError(str(directory), f"cannot be written: {error.strerror}") from error
    finally:
        for place in missing:
            with suppress(OSError):
                place.rmdir()  # a directory with files in it stays


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
