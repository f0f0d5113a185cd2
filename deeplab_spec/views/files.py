"""How reports reach the disk: every file whole or not at all."""

import os
import tempfile
from pathlib import Path

from deeplab_spec.errors import TargetError


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file; a reader never sees half of it, and an error leaves what was there.

    Args:
        path: The file, in a directory that is there.
        content: Everything that it shall contain; text is written as UTF-8.

    Raises:
        TargetError: If it cannot be written.
    """
    half = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            half = Path(file.name)
            file.write(content.encode() if isinstance(content, str) else content)
        half.chmod(path.stat().st_mode if path.exists() else 0o666 & ~_umask())
        half.replace(path)
    except OSError as error:
        if half:
            half.unlink(missing_ok=True)
        raise TargetError(str(path), f"cannot be written: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
