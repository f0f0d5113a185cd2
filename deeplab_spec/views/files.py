"""Writes files atomically: a file is written completely or not at all."""

import os
import tempfile
from pathlib import Path

from deeplab_spec.errors import TargetError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write or replace a file atomically; an error leaves the previous content.

    Args:
        path: The file, in a directory that exists.
        content: The whole content; text is written as UTF-8.

    Raises:
        TargetError: If it cannot be written.
    """
    part = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            part = Path(file.name)
            file.write(content.encode() if isinstance(content, str) else content)
        part.chmod(path.stat().st_mode if path.exists() else 0o666 & ~_umask())
        part.replace(path)
    except OSError as error:
        if part:
            part.unlink(missing_ok=True)
        raise TargetError(str(path), f"cannot be written: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
