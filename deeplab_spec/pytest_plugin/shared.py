"""Certificates that the processes of one run share: who comes first judges, the others wait for it."""

import fcntl
from collections.abc import Callable
from pathlib import Path

from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.views.files import write_whole


def shared(folder: Path, name: str, make: Callable[[], Certificate]) -> Certificate:
    """Return a certificate that is made once for all processes.

    Args:
        folder: A folder that only they write to.
        name: What tells it from others.
        make: Makes it; an error is not shared, so that each process meets it itself.
    """
    file = folder / f"{name}.json"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed, also by the end of the process
        if file.exists():
            return Certificate.model_validate_json(file.read_bytes())
        certificate = make()
        write_whole(file, certificate.model_dump_json())
        return certificate
