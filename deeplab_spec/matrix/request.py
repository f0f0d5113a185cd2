"""The file of a matrix: its targets, and at which output strides, levels and precisions each is judged."""

import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field, ValidationError

from deeplab_spec.capture.candidate.start import TIMEOUT, ProcessSettings
from deeplab_spec.errors import SpecError, one_line, printable
from deeplab_spec.judge.request import DEVICES, DTYPES, Request, read_dtypes, request_from
from deeplab_spec.judge.waivers import MOST_BYTES, waivers_from
from deeplab_spec.precision import LOWER
from deeplab_spec.spec.api import Override, written_overrides
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.network import DEFAULT_OUTPUT_STRIDE
from deeplab_spec.views.document import Model, read_bounded

Strides = tuple[int, ...]
_LOWER: Final = frozenset(each.name for each in LOWER)
_UNKNOWN: Final = "extra_forbidden"


class Target(Model):
    """A table ``[[target]]``: a network, and what it is judged against, as the options of ``certify``."""

    target: str = Field(min_length=1)
    name: str = ""
    variant: str | None = None
    against: str | None = None
    choose: dict[str, Override] = Field(default_factory=dict)
    arg: dict[str, str | int | float | bool] = Field(default_factory=dict)
    against_arg: dict[str, str | int | float | bool] = Field(default_factory=dict)
    part: str | None = None
    classes: int | None = None
    output_strides: Strides | None = Field(default=None, min_length=1)

    @property
    def label(self) -> str:
        """Its name in reports."""
        return self.name or self.target


class Cell(Model):
    """One certificate of a matrix: a target at one output stride, on one level; numerics in one set of precisions."""

    target: Target
    output_stride: int
    level: Level
    dtypes: tuple[str, ...]
    device: str
    seed: int
    python: str
    search: tuple[str, ...]
    timeout: float

    @property
    def column(self) -> str:
        """Its level, and the lower precision."""
        return " ".join([self.level.value, *(name for name in self.dtypes if name in _LOWER)])

    @property
    def id(self) -> str:
        """Its name."""
        return f"{self.target.label}@{self.output_stride} {self.column}"

    @property
    def request(self) -> Request:
        """The request of its certificate.

        Raises:
            SpecError: If a value is not allowed.
        """
        row = self.target
        return request_from(
            row.target,
            variant=row.variant,
            against=row.against,
            overrides=written_overrides(row.choose),
            arguments=dict(part.split("=", 1) for part in written_overrides(row.arg)),
            against_arguments=dict(part.split("=", 1) for part in written_overrides(row.against_arg)),
            part=row.part,
            output_strides=(self.output_stride,),
            classes=row.classes,
            levels=(self.level,),
            dtypes=self.dtypes,
            device=self.device,
            seed=self.seed,
        )

    @property
    def process(self) -> ProcessSettings:
        """How the target's process is started."""
        return ProcessSettings(python=self.python, search=self.search, timeout=self.timeout)


class Matrix(Model):
    """The file.

    A level is decided once at each output stride; numerics once in float64 and float32, and once more with each lower
    precision.
    """

    target: tuple[Target, ...] = Field(min_length=1)
    waiver: tuple[dict[str, str | date], ...] = ()
    accept_waivers: bool = False
    output_strides: Strides = Field(default=(DEFAULT_OUTPUT_STRIDE,), min_length=1)
    levels: tuple[Level, ...] = Field(default=tuple(Level), min_length=1)
    dtypes: tuple[str, ...] = Field(default=DTYPES, min_length=1)
    device: str = DEVICES[0]
    seed: int = 0
    python: str = ""
    search: tuple[str, ...] = ()
    timeout: float = Field(default=TIMEOUT, gt=0)

    def cells(self) -> Iterator[Cell]:
        """Yield the cells in order: target by target, output stride by output stride, level by level."""
        shared = {name: getattr(self, name) for name in ("device", "seed", "python", "search", "timeout")}
        for row in self.target:
            for stride in dict.fromkeys(row.output_strides or self.output_strides):
                for level in dict.fromkeys(self.levels):
                    for dtypes in self._precisions() if level is Level.NUMERICS else [DTYPES]:
                        yield Cell(target=row, output_stride=stride, level=level, dtypes=dtypes, **shared)

    def _precisions(self) -> list[tuple[str, ...]]:
        dtypes = read_dtypes(self.dtypes, "dtypes")
        usual = tuple(name for name in dtypes if name not in _LOWER)
        return [*([usual] if usual else []), *((*DTYPES, name) for name in dtypes if name in _LOWER)]


def read_matrix(path: Path) -> tuple[Matrix, tuple[Cell, ...]]:
    """Read the TOML file of a matrix, and check every cell and waiver of it.

    Raises:
        SpecError: If it is no such file; the error names the key.
        TargetError: If it cannot be read.
    """
    try:
        document = tomllib.loads(read_bounded(path, MOST_BYTES).decode())
    except (ValueError, RecursionError) as error:
        raise SpecError(str(path), "must be TOML", one_line(error)) from error
    try:
        matrix = Matrix.model_validate(document)
        cells = tuple(matrix.cells())
    except ValidationError as error:
        raise _of_key(path, error.errors()[0]) from error
    except SpecError as error:
        raise _at(f"{path}", error) from error
    seen: set[str] = set()
    for cell in cells:
        try:
            _ = cell.request
        except SpecError as error:
            raise _at(f"{path}: {cell.id}", error) from error
        if cell.id in seen:
            raise SpecError(f"{path}: target", "must have a name that no other has", cell.target.label)
        seen.add(cell.id)
    waivers_from(matrix.waiver, str(path))
    return matrix, cells


def _at(where: str, error: SpecError) -> SpecError:
    return SpecError(f"{where}: {error.where}", error.rule, error.actual, error.known)


def _of_key(path: Path, error: Any) -> SpecError:  # noqa: ANN401 - as pydantic describes it
    """Return the error of a key: an unknown key, or a value that it may not have."""
    place = [f"{part + 1}" if isinstance(part, int) else str(part) for part in error["loc"]]
    model: type[BaseModel] = Target if place[:1] == ["target"] and len(place) > 1 else Matrix
    where = f"{path}: {' '.join(place)}"
    if error["type"] == _UNKNOWN:
        return SpecError(where, f"must be one of {', '.join(model.model_fields)}", place[-1])
    return SpecError(where, printable(error["msg"]), error["input"])
