"""Builds what the user named: the reference, or somebody's module."""

import ast
import copy
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from torch import nn

from deeplab_spec.capture.file_module import FileModule
from deeplab_spec.errors import TargetError, one_line
from deeplab_spec.reference.network import build as build_reference
from deeplab_spec.spec.choices import ChoiceValue, read_overrides
from deeplab_spec.spec.variants import VARIANTS


def _read_pt2(path: Path, name: str) -> FileModule:
    from deeplab_spec.capture.pt2.file import read_pt2

    return read_pt2(path, name)


def _read_onnx(path: Path, name: str) -> FileModule:
    from deeplab_spec.capture.onnx.file import read_onnx

    return read_onnx(path, name)


_READERS: Final[dict[str, Callable[[Path, str], FileModule]]] = {".pt2": _read_pt2, ".onnx": _read_onnx}

SUFFIXES: Final = tuple(_READERS)
"""Endings of the files that are candidates."""


def is_file(name: str) -> bool:
    """Tell whether what a user named is a file that holds a network."""
    return Path(name).suffix.lower() in SUFFIXES


def open_file(path: Path, name: str) -> FileModule:
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


REFERENCE = "reference"

TargetLike = str | nn.Module | Callable[..., nn.Module]
"""``module:callable``, ``reference:VARIANT``, the path of a file, a module, or what builds one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is judged, and how it is built.

    Attributes:
        name: ``reference:VARIANT``, ``module:callable``, or the path of a file.
        arguments: Keyword arguments as text; ``{output_stride}`` and ``{classes}`` are filled in.
        part: The part of the specification that the target implements; None for all of it.
        choices: Decisions of a reference.
        source: The module itself, or what builds it; None if the name says where it is.
    """

    name: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    part: str | None = None
    choices: Mapping[str, ChoiceValue] = field(default_factory=dict)
    source: nn.Module | Callable[..., object] | None = None

    @classmethod
    def of(cls, target: TargetLike, arguments: Mapping[str, object] | None = None) -> "Target":
        """Return the target of a public function: a name, or a module or what builds one; a module is copied.

        Raises:
            SpecError: If a choice of a reference cannot be decided so.
        """
        written = {name: str(value) for name, value in (arguments or {}).items()}
        if isinstance(target, str):
            return parse_target(target, written)
        name = getattr(target, "__qualname__", type(target).__qualname__)
        source = copy.deepcopy(target) if isinstance(target, nn.Module) else target
        return cls(name=name, arguments=written, source=source)


def parse_target(name: str, arguments: Mapping[str, str]) -> Target:
    """Return what a user named: arguments of a reference decide its choices.

    Raises:
        SpecError: If a choice of a reference cannot be decided so.
    """
    if name.partition(":")[0] != REFERENCE:
        return Target(name=name, arguments=arguments)
    choices = read_overrides(f"{choice}={value}" for choice, value in arguments.items())
    full = name if ":" in name else f"{REFERENCE}:{VARIANTS[0].name}"
    return Target(name=full, arguments=arguments, choices=choices)


def load(target: Target, output_stride: int, classes: int) -> nn.Module:
    """Build a target, or read it from its file.

    Raises:
        TargetError: If it cannot be imported, built or read, or is no module; one line says why.
        SpecError: If it is a reference that does not exist.
    """
    if target.source is not None:
        return build(target, target.source, output_stride, classes)
    kind, _, variant = target.name.partition(":")
    if kind == REFERENCE:
        module: nn.Module = build_reference(variant, output_stride, classes, target.choices)
        return getattr(module, target.part) if target.part else module
    if is_file(target.name):
        return open_file(Path(target.name), target.name)
    return build(target, _find(target.name), output_stride, classes)


def _find(name: str) -> object:
    """Import ``module:attribute``; the working directory is searched last."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise TargetError(name, f"must be {REFERENCE}:VARIANT or MODULE:CALLABLE")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: object = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise TargetError(name, f"cannot import {module_name!r}: {one_line(error)}") from error
    for step in attribute.split("."):
        if not hasattr(found, step):
            raise TargetError(name, f"module {module_name!r} has no attribute {attribute!r}")
        found = getattr(found, step)
    return found


def build(target: Target, found: object, output_stride: int, classes: int) -> nn.Module:
    """Call what was found, unless it is a module already.

    ``output_stride`` and ``num_classes`` are passed where the signature names them.

    Raises:
        TargetError: If the call fails, or does not return a module.
    """
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise TargetError(target.name, f"must be callable, but is a {type(found).__name__}")
    arguments = {name: _value(text, output_stride, classes) for name, text in target.arguments.items()}
    try:
        names = inspect.signature(found).parameters
    except (TypeError, ValueError):
        names = inspect.signature(lambda: None).parameters
    for name, value in (("output_stride", output_stride), ("num_classes", classes)):
        if name in names:
            arguments.setdefault(name, value)
    try:
        module = found(**arguments)
    except (Exception, SystemExit) as error:
        raise TargetError(target.name, f"cannot be built: {one_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise TargetError(target.name, f"must give a torch.nn.Module, but gave a {type(module).__name__}")
    return module


def _value(text: str, output_stride: int, classes: int) -> object:
    """Read an argument: a Python literal where it is one, else text."""
    filled = text.replace("{output_stride}", str(output_stride)).replace("{classes}", str(classes))
    try:
        return ast.literal_eval(filled)
    except (ValueError, SyntaxError):
        return filled
