"""This side of the wire to a candidate: sends requests, and validates the answers.

Nothing that arrives is believed but the bytes of tensors and the graph, and both are validated before they are used.
"""

import os
import re
import stat
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, ClassVar, Final

import torch
from torch import Tensor

from deeplab_spec.capture.candidate.process import DTYPES, Files, Host, raw
from deeplab_spec.capture.candidate.start import HERE, UNREQUESTED, CandidateProcess, ProcessSettings
from deeplab_spec.child_process import Document
from deeplab_spec.errors import ChildError, printable
from deeplab_spec.execute.torch_settings import float32_products

OLDEST: Final = ((3, 9), (2, 4))
"""The oldest versions of Python and PyTorch that a candidate's environment may have."""

DEATHS: Final = 3
"""How often a candidate's process may end by itself, or be ended because it did not answer."""

_MOST_BYTES: Final = 2**33
_MOST_TENSORS: Final = 1_000_000
_MOST_SIDE: Final = 2**40
_MOST_TEXT: Final = 300
_FILE: Final = re.compile(r"[0-9]{1,10}-[0-9]{1,10}")


class Answer(ABC):
    """An answer that may not have arrived yet."""

    @abstractmethod
    def result(self) -> Document:
        """Wait for the answer.

        Raises:
            ChildError: If the process ends first, does not answer in time, or sends something that is no answer.
            LostError: If it ends before it comes to the request.
        """


class LostError(ChildError):
    """The process ended before it came to a request, while it did what an earlier one said."""


class Connection(ABC):
    """A way to send requests to a candidate.

    Attributes:
        generation: Counts the processes that were started: a candidate that was built in an earlier one is lost.
        repetitions: How often a candidate is called before a call whose values are compared.
        versions: The versions of Python and PyTorch in the process; empty for this one.
    """

    generation: int = 1
    repetitions: ClassVar[int] = 300
    versions: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        self._numbers = 0

    def number(self) -> int:
        """Return a new number for a candidate."""
        self._numbers += 1
        return self._numbers

    @abstractmethod
    def submit(self, request: Mapping[str, Any]) -> Answer:
        """Send a request without waiting for its answer; answers come in the order of the requests."""

    @abstractmethod
    def pack(self, tensors: Mapping[str, Tensor]) -> Document:
        """Make tensors available to the candidate; they are sent with a request."""

    @abstractmethod
    def unpack(self, packed: object) -> dict[str, Tensor]:
        """Return the tensors of an answer.

        Raises:
            ChildError: If they are not what they say.
        """

    def ensure(self) -> None:  # noqa: B027 - for connections with a process
        """Start the process if it does not run."""

    def close(self) -> None:  # noqa: B027 - as above
        """End the process, with everything that it started."""


class _Memory:
    """Sends tensors within a process: as copies, with their strides."""

    folder = ""

    def pack(self, tensors: Mapping[str, Tensor], *, digest: bool = False) -> Document:  # noqa: ARG002 - as Files
        return {"tensors": {name: self._copy(tensor.detach()) for name, tensor in tensors.items()}}

    def unpack(self, packed: Document) -> dict[str, Tensor]:
        return dict(packed["tensors"])

    mapped = unpack

    @staticmethod
    def _copy(tensor: Tensor) -> Tensor:
        copied = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
        return copied.copy_(tensor) if 0 not in tensor.stride() else tensor.clone()


@dataclass(frozen=True)
class _Done(Answer):
    document: Document

    def result(self) -> Document:
        return self.document


class LocalConnection(Connection):
    """Runs a candidate in this process: for networks that this package builds itself, and objects of the caller."""

    repetitions: ClassVar[int] = 3

    def __init__(self) -> None:
        super().__init__()
        self.memory = _Memory()
        self.host = Host(self.memory)

    def submit(self, request: Mapping[str, Any]) -> Answer:
        """Answer a request."""
        with float32_products(tf32=False):
            return _Done(self.host.answer(request))

    def pack(self, tensors: Mapping[str, Tensor]) -> Document:
        """Copy tensors."""
        return self.memory.pack(tensors)

    def unpack(self, packed: object) -> dict[str, Tensor]:
        """Return the tensors of an answer."""
        return self.memory.unpack(packed)  # type: ignore[arg-type]  # from the host of this process


@dataclass
class _Waiting(Answer):
    connection: "ProcessConnection"
    number: int
    document: Document | None = None
    error: ChildError | None = None

    def result(self) -> Document:
        while self.document is None and self.error is None:
            self.connection.receive()
        if self.document is None:
            raise self.error or ChildError("the process has ended")
        return self.document


class ProcessConnection(Connection):
    """Runs a candidate in a process of its own, which is started for the first request and again after it ended.

    Attributes:
        generation: Counts the processes that were started.
        versions: The versions of Python and PyTorch in the process that was started last.
    """

    def __init__(self, settings: ProcessSettings = HERE) -> None:
        super().__init__()
        self.generation = 0
        self.versions = {}
        self._settings = settings
        self._deaths = 0
        self._process: CandidateProcess | None = None
        self._waiting: deque[_Waiting] = deque()
        self._sent = 0

    def ensure(self) -> None:
        """Start the process if it does not run.

        Raises:
            ChildError: If it ended too often.
        """
        if self._process is not None:
            return
        if self._deaths >= DEATHS:
            raise ChildError(f"the process ended {DEATHS} times, and is not started again")
        try:
            self._process = self._settings.process()
            self._files = Files(str(self._process.folder))
            self.generation += 1
            self.versions = checked_versions(self._process.greeting())
        except (ChildError, TimeoutError) as error:
            self._died(str(error))
            python = self._settings.python or sys.executable
            raise ChildError(f"the process cannot be started: {python}: {error}") from error

    def submit(self, request: Mapping[str, Any]) -> Answer:
        """Send a request without waiting for its answer."""
        self.ensure()
        self._sent += 1
        waiting = _Waiting(self, self._sent)
        self._waiting.append(waiting)
        try:
            if self._process:
                self._process.send({**request, "id": self._sent})
        except ChildError as error:
            self._died(error.reason)
        return waiting

    def pack(self, tensors: Mapping[str, Tensor]) -> Document:
        """Write tensors to a file that the process reads.

        Raises:
            ChildError: If they cannot be written.
        """
        self.ensure()
        try:
            packed: Document = self._files.pack(tensors)
        except OSError as error:
            self._died(f"the process has no folder for tensors: {error.strerror}")
            raise ChildError(f"the process has no folder for tensors: {error.strerror}") from error
        return packed

    def unpack(self, packed: object) -> dict[str, Tensor]:
        """Read the tensors of an answer, and remove their file."""
        try:
            file, entries, digest = _described(packed)
            path = os.path.join(self._files.folder, file)  # noqa: PTH118 - the descriptor is opened below
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as source:
                _read_into(source, [tensor for _, tensor in entries], digest)
            with suppress(OSError):
                Path(path).unlink()
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            if isinstance(error, FileNotFoundError):  # a later request removed what an earlier one had answered
                if self._process is not None:
                    self._died("the process removed its folder for tensors")
                raise LostError("the process removed its folder for tensors") from error
            raise ChildError("the process sent tensors that cannot be read") from error
        return dict(entries)

    def receive(self) -> None:
        """Wait for the next answer; if there is none, everything that waits has its reason."""
        if self._process is None:
            raise ChildError("the process has ended")
        try:
            self._accept(self._process.receive())
        except (ChildError, TimeoutError) as error:
            self._died(str(error))

    def _accept(self, answer: Document) -> None:
        if not self._waiting or answer.get("id") != self._waiting[0].number:
            raise ChildError(UNREQUESTED)
        self._waiting.popleft().document = answer

    def _died(self, reason: str) -> None:
        self._deaths += 1
        with suppress(ChildError):  # what it answered before is not lost
            while self._waiting and self._process and (answer := self._process.poll()):
                self._accept(answer)
        for position, waiting in enumerate(self._waiting):
            waiting.error = LostError(reason) if position else ChildError(reason)
        self._waiting.clear()
        self._forget()

    def _forget(self) -> None:
        if self._process:
            self._process.end()
            self._process = None

    def close(self) -> None:
        """End the process, with everything that it started."""
        self._forget()
        self._deaths = DEATHS


def checked_versions(greeting: object) -> dict[str, str]:
    """Return the versions of Python and PyTorch that a process has.

    Raises:
        ChildError: If it cannot run candidates.
    """
    stated = greeting if isinstance(greeting, dict) else {}
    if "error" in stated:
        raise ChildError(printable(str(stated["error"]))[:_MOST_TEXT])
    found = {name: printable(str(stated.get(name)))[:_MOST_TEXT] for name in ("python", "torch")}
    for (name, version), oldest in zip(found.items(), OLDEST, strict=True):
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if not numbers or tuple(map(int, numbers.groups())) < oldest:
            raise ChildError(f"it has {name} {version}, and needs {'.'.join(map(str, oldest))} or later")
    return found


def _read_into(source: BinaryIO, tensors: Sequence[Tensor], digest: str | None) -> None:
    """Fill tensors from a regular file that has just their bytes, and that digest if there is one."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    status = os.fstat(source.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        raise ValueError("its file has another size")
    for tensor in tensors:
        if tensor.numel() and source.readinto(raw(tensor)) != tensor.numel() * tensor.element_size():  # type: ignore[attr-defined]
            raise ValueError("its file ended early")
    if digest is not None:
        total = blake2b()
        for tensor in tensors:
            total.update(raw(tensor))
        if total.hexdigest() != digest:
            raise ValueError("its file was changed")


def _described(packed: object) -> tuple[str, list[tuple[str, Tensor]], str | None]:
    """Return the file of an answer's tensors, the empty tensors to read it into, and its digest if it has one."""
    if not isinstance(packed, dict) or not _FILE.fullmatch(packed["file"]) or len(packed["tensors"]) > _MOST_TENSORS:
        raise ValueError("no file")
    left = _MOST_BYTES
    entries = []
    for name, dtype, shape, _ in packed["tensors"]:
        if not isinstance(name, str) or dtype not in DTYPES or not _is_shape(shape):
            raise ValueError("no tensor")
        kind: torch.dtype = getattr(torch, dtype)
        left -= kind.itemsize * _product(shape)
        if left < 0:
            raise ValueError("too large")
        entries.append((name, torch.empty(shape, dtype=kind)))
    return packed["file"], entries, packed.get("digest")


def _is_shape(shape: object) -> bool:
    return isinstance(shape, list) and all(type(side) is int and 0 <= side < _MOST_SIDE for side in shape)


def _product(shape: Sequence[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
