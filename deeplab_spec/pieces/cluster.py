"""Runs pieces on a Ray cluster, which schedules them, gives them their resources, and runs lost ones again."""

import logging
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from deeplab_spec.errors import MissingExtraError, TargetError, one_line
from deeplab_spec.pieces.plan import Done, Piece, Took, code_digest, timed
from deeplab_spec.views.document import Json

RETRIES: Final = 5
"""How often a piece starts again whose worker or node is lost."""

CONNECT: Final = 20.0
"""Seconds in which a cluster named by host and port must accept a connection."""

_HOST_PORT: Final = re.compile(r"(?:ray://)?\[?([^/]+?)\]?:(\d{1,5})$")

Work = Callable[[Json], Any]
"""Runs the work of a piece; a function of a module, which a worker imports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A Ray cluster.

    Attributes:
        address: Its address as ``ray.init`` takes it; ``local`` starts one on this machine.
        cpus: Cores that a piece gets.
        gpus: GPUs that a piece gets.

    Raises:
        MissingExtraError: If Ray is not installed.
    """

    address: str
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if find_spec("ray") is None:
            raise MissingExtraError("--ray", "ray")

    def execute(self, work: Work) -> Callable[[Sequence[Piece]], Iterator[Done]]:
        """Return what runs pieces on the cluster."""

        def execute(pieces: Sequence[Piece]) -> Iterator[Done]:
            if pieces:
                with self._connected():
                    yield from self._run(work, pieces)

        return execute

    @contextmanager
    def _connected(self) -> Iterator[None]:
        check_reachable(self.address)
        import ray

        try:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise TargetError(f"--ray {self.address}", one_line(error)) from error
        try:
            yield
        finally:
            ray.shutdown()

    def _run(self, work: Work, pieces: Sequence[Piece]) -> Iterator[Done]:
        """Give every piece to the cluster, and yield each when it is done."""
        import ray

        remote = ray.remote(_timed).options(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=RETRIES)
        here = str(Path.cwd())
        waiting = {remote.remote(work, piece.work, here, code_digest()): piece for piece in pieces}
        while waiting:
            (reference, *_), _ = ray.wait([*waiting], num_returns=1)
            piece = waiting.pop(reference)
            try:
                result, took = ray.get(reference)
            except ray.exceptions.RayError as error:
                cause = one_line(getattr(error, "cause", None) or error)
                raise TargetError(f"--ray {self.address}", f"{piece.id}: {cause}") from error
            yield piece, result, took


def check_reachable(address: str, seconds: float = CONNECT) -> None:
    """Connect to a cluster that is named by host and port; Ray itself waits for minutes.

    The addresses ``auto`` and ``local`` name no host, and are left to Ray.

    Raises:
        TargetError: If nothing accepts a connection there.
    """
    found = _HOST_PORT.match(address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=seconds).close()
    except (OSError, OverflowError) as error:
        raise TargetError(f"--ray {address}", f"accepts no connection: {one_line(error)}") from error


def _timed(work: Work, document: Json, folder: str, code: str) -> tuple[Any, Took]:
    """Run the work of a piece in a worker, in a folder if it is there; return the result, and how long it took."""
    if code_digest() != code:
        raise TargetError("worker", "has another version of deeplab_spec or torch than this process")
    with chdir(folder) if Path(folder).is_dir() else nullcontext():
        return timed(work, document)
