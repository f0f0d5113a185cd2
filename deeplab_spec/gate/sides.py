"""Base and head: a target, a directory, a git ref or a wheel, made ready for import, and built in fresh processes."""

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from deeplab_spec.child_process import PASSIVE, ChildProcess
from deeplab_spec.errors import ChildError, SpecError, TargetError
from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.document import NO_PLANT, Plant
from deeplab_spec.spec.network import DEFAULT_CLASSES
from deeplab_spec.spec.variants import REFERENCE, variant
from deeplab_spec.views.document import temporary_folder

BUILD: Final = "deeplab_spec:build"
"""What is built from a directory, ref or wheel by default."""

PACKAGES: Final = Path(__file__).parents[2]
"""The directory that holds this package."""

_REF: Final = "ref"

WARM_UP: Final = 3
"""Runs of each process before the first round. The first round is not counted either."""

SCRIPT: Final = Path(__file__).with_name("side") / "process.py"

_ENVIRONMENT: Final = {
    **PASSIVE,  # spinning threads would take the core from the other side
    "PYTHONDONTWRITEBYTECODE": "1",  # the side's directory stays unchanged
    "PYTHONHASHSEED": "0",
}

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What is timed on one side, and where it is imported from.

    Attributes:
        name: The side as the user wrote it.
        target: A callable or a module instance, as ``module:attribute``.
        variant: The variant that the side itself names; None to use that of the case.
        paths: Directories that are searched for modules first.
        within: The directory that the target must be imported from; None for no such limit.
        arguments: Keyword arguments of the callable, as text.
    """

    name: str
    target: str
    variant: str | None = None
    paths: tuple[Path, ...]
    within: Path | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)

    def require_origin(self, origin: str) -> None:
        """Check that the target was imported from this side, and not from the other side or an installed package.

        Raises:
            TargetError: If it was imported from somewhere else.
        """
        if self.within is None:
            return
        if not origin or not Path(origin).resolve().is_relative_to(self.within.resolve()):
            module = self.target.partition(":")[0]
            raise TargetError(self.name, f"{module!r} was imported from {origin or 'nowhere'}, not from here")

    def require_variant(self, cases: Sequence[Case]) -> None:
        """Check that no option asks for another variant than the one that the side names.

        Raises:
            SpecError: If an option does.
        """
        for case in cases:
            if self.variant and "variant" in case.required and case.variant != self.variant:
                raise SpecError("--variant", f"must be that of {self.name}", case.variant)


@contextmanager
def opened(name: str, target: str = BUILD, arguments: Mapping[str, str] | None = None) -> Iterator[Side]:
    """Make a side ready for import; a ref or a wheel is unpacked into a temporary directory.

    Raises:
        SpecError: If a reference names no variant, or a target is not ``module:callable``.
        TargetError: If the directory, ref or wheel does not exist or cannot be read.
    """
    keywords = dict(arguments or {})
    _require_target(target)
    kind, colon, rest = name.partition(":")
    if name.endswith(".whl") or (colon and kind == _REF) or not colon or Path(name).is_dir():
        with temporary_folder() as folder:
            root = _unpacked(name, folder)
            paths = tuple(path for path in (root / "src", root) if path.is_dir())
            yield Side(name=name, target=target, paths=paths, within=root, arguments=keywords)
    elif kind == REFERENCE:
        yield Side(name=name, target=BUILD, variant=variant(rest).name, paths=(PACKAGES,), arguments=keywords)
    else:
        _require_target(name)
        yield Side(name=name, target=name, paths=(Path.cwd(), PACKAGES), arguments=keywords)


def _require_target(name: str) -> None:
    module, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        raise SpecError("target", "must be MODULE:CALLABLE", name)


def _unpacked(name: str, folder: Path) -> Path:
    """Return a directory as it is; unpack a ref or a wheel into ``folder``."""
    if name.startswith(f"{_REF}:"):
        _export(name, folder)
        return folder
    if name.endswith(".whl"):
        try:
            with zipfile.ZipFile(name) as wheel:
                for member in wheel.namelist():
                    wheel.extract(member, folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise TargetError(name, f"the wheel cannot be read: {error}") from error
        return folder
    if name and Path(name).is_dir():
        return Path(name).resolve()
    raise TargetError(name, "there is no such directory; a side is also a wheel, ref:NAME, or MODULE:CALLABLE")


def _export(name: str, folder: Path) -> None:
    ref = name.removeprefix(f"{_REF}:")
    if not ref or ref.startswith("-"):
        raise SpecError("ref", "must name a commit", name)
    try:
        archive = subprocess.run(
            ["git", "archive", "--format=tar", ref],  # noqa: S607 - the user's git
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise TargetError(name, f"git cannot be run: {error.strerror}") from error
    if archive.returncode:
        lines = archive.stderr.decode(errors="replace").strip().splitlines() or ["git archive failed"]
        raise TargetError(name, lines[0])
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
        tar.extractall(folder)  # noqa: S202 - the user's own commit


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed run.

    Attributes:
        seconds: The time of the run.
        witness: The time of a fixed piece of arithmetic directly before it.
        mhz: The clock of the GPU directly after it; None if unknown.
        slowed_by: Why the GPU was slowed to protect it; empty if it was not, or if that is unknown.
    """

    seconds: float
    witness: float
    mhz: int | None = None
    slowed_by: str = ""


def job_of(case: Case, side: Side, plant: Plant = NO_PLANT) -> dict[str, Any]:
    """Return what the process of one side builds and runs, as JSON values."""
    return {
        "target": side.target,
        "arguments": dict(side.arguments),
        "variant": side.variant or case.variant,
        "choices": dict(case.choices),
        "output_stride": case.output_stride,
        "num_classes": DEFAULT_CLASSES,
        "required": case.required,
        "size": case.size,
        "batch": case.batch,
        "direction": case.direction,
        "mode": plant.mode or case.mode,
        "device": case.device,
        "threads": case.threads,
        "warm_up": WARM_UP,
        "wait": plant.wait,
    }


class SideProcess:
    """A fresh process that builds one side, and times one run for every request.

    It searches the paths for modules first; the job is that of :func:`job_of`.
    """

    def __init__(self, name: str, paths: tuple[Path, ...], job: Facts, timeout: float, script: Path = SCRIPT) -> None:
        self.name = name
        self.timeout = timeout
        before = os.environ.get("PYTHONPATH")
        environment = {**os.environ, **_ENVIRONMENT, "OMP_NUM_THREADS": str(job["threads"])}
        environment["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *([before] if before else [])])
        command = [sys.executable, "-P", "-W", "ignore", str(script)]
        self._child = ChildProcess(command, environment, quiet=True)
        self._child.send(json.dumps(dict(job)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()

    def sample(self) -> Sample:
        """Time one run."""
        self._child.send("sample")
        answer = self.answer("sample")
        return Sample(**{name: value for name, value in answer.items() if name != "event"})

    def restrict(self, cores: frozenset[int]) -> None:
        """Let the process run on these cores only; does nothing where the system forbids it."""
        with suppress(OSError):
            os.sched_setaffinity(self._child.pid, cores)

    def answer(self, event: str) -> Facts:
        """Wait for an event, and return its fields.

        Raises:
            TargetError: If another event arrives, or none before the deadline.
        """
        try:
            answer = self._child.receive(self.timeout)
        except TimeoutError:
            raise TargetError(self.name, f"no answer within {self.timeout:g} seconds: it hangs") from None
        except ChildError as error:
            raise TargetError(self.name, error.reason) from error
        if answer["event"] != event:
            raise TargetError(self.name, str(answer.get("message", f"answered {answer['event']}")))
        return answer
