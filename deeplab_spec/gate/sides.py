"""Base and head: a target, a checkout, a git ref or a wheel, made ready to be imported."""

import io
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.spec.variants import variant

BUILD: Final = "deeplab_spec:build"
"""What is timed of a checkout, ref or wheel, unless another target is named."""

PACKAGES: Final = Path(__file__).parents[2]
"""Where this package is imported from."""

_REFERENCE: Final = "reference"
_REF: Final = "ref"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What is timed on one side, and where it is imported from.

    Attributes:
        name: What the user named.
        target: ``module:callable``, or a module instance.
        variant: The network, where the side says which; None for that of the case.
        paths: Directories that come first in the search for modules.
        within: The directory that the target must come from; None where any will do.
        arguments: Keyword arguments of the callable, as text.
    """

    name: str
    target: str
    variant: str | None = None
    paths: tuple[Path, ...]
    within: Path | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)

    def require_origin(self, origin: str) -> None:
        """Refuse a target that was imported from somewhere else: it would be the other side's code.

        Raises:
            TargetError: If it was.
        """
        if self.within is None:
            return
        if not origin or not Path(origin).resolve().is_relative_to(self.within.resolve()):
            module = self.target.partition(":")[0]
            raise TargetError(self.name, f"{module!r} was imported from {origin or 'nowhere'}, not from it")


@contextmanager
def opened(name: str, target: str = BUILD, arguments: Mapping[str, str] | None = None) -> Iterator[Side]:
    """Make a side ready; a ref or a wheel is unpacked into a directory that goes away afterwards.

    Args:
        name: ``reference:VARIANT``, ``module:callable``, a directory, ``ref:NAME``, or a wheel.
        target: What is built of a directory, ref or wheel.
        arguments: Keyword arguments of what is built.

    Raises:
        SpecError: If a reference names no variant, or the target is no ``module:callable``.
        TargetError: If there is no such directory, ref or wheel.
    """
    given = dict(arguments or {})
    _require_target(target)
    kind, colon, rest = name.partition(":")
    if name.endswith(".whl") or (colon and kind == _REF) or not colon or Path(name).is_dir():
        with tempfile.TemporaryDirectory(prefix="deeplab-spec-gate-") as folder:
            place = _place(name, Path(folder))
            paths = tuple(path for path in (place / "src", place) if path.is_dir())
            yield Side(name=name, target=target, paths=paths, within=place, arguments=given)
    elif kind == _REFERENCE:
        yield Side(name=name, target=BUILD, variant=variant(rest).name, paths=(PACKAGES,), arguments=given)
    else:
        _require_target(name)
        yield Side(name=name, target=name, paths=(Path.cwd(), PACKAGES), arguments=given)


def _require_target(name: str) -> None:
    module, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        raise SpecError("target", "must be MODULE:CALLABLE", name)


def _place(name: str, folder: Path) -> Path:
    """Return the directory of a checkout, or unpack a ref or wheel into the folder."""
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
