"""Opens a network that came as a file, by the ending of its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from deeplab_spec.capture.file_module import Artefact
from deeplab_spec.errors import TargetError


def _read_pt2(path: Path, name: str) -> Artefact:
    from deeplab_spec.capture.pt2.file import read_pt2

    return read_pt2(path, name)


def _read_onnx(path: Path, name: str) -> Artefact:
    from deeplab_spec.capture.onnx.file import read_onnx

    return read_onnx(path, name)


_READERS: Final[dict[str, Callable[[Path, str], Artefact]]] = {".pt2": _read_pt2, ".onnx": _read_onnx}

SUFFIXES: Final = tuple(_READERS)
"""Endings of the files that are candidates."""


def is_file(name: str) -> bool:
    """Tell whether what a user named is a file that holds a network."""
    return Path(name).suffix.lower() in SUFFIXES


def open_file(path: Path, name: str) -> Artefact:
    """Read a file as a candidate; nothing in it is executed.

    Args:
        path: The file.
        name: What the user named.

    Raises:
        TargetError: If it is missing, empty, no file, of another kind, or cannot be read; one line says why.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise TargetError(name, f"must be a file whose name ends in {' or '.join(SUFFIXES)}")
    try:
        if not path.exists():
            raise TargetError(name, "there is no such file")
        if not path.is_file():
            raise TargetError(name, "is no file")
        if not path.stat().st_size:
            raise TargetError(name, "is an empty file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise TargetError(name, f"cannot be read: {error.strerror or type(error).__name__}") from error
    return reader(path, name)
