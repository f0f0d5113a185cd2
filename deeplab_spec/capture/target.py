"""Builds the network that the user names: a reference, a callable, or a file."""

import ast
import copy
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from torch import nn

from deeplab_spec.capture.capture import FileModule
from deeplab_spec.errors import MissingExtraError, TargetError, one_line
from deeplab_spec.reference.network import build as build_reference
from deeplab_spec.spec.choices import ChoiceValue, read_overrides
from deeplab_spec.spec.variants import VARIANTS

REFERENCE: Final = "reference"

_ONNX_PACKAGES: Final = ("onnx", "onnxruntime")

TargetLike = str | nn.Module | Callable[..., nn.Module]
"""``module:callable``, ``reference:VARIANT``, the path of a file, a module, or a callable that builds one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A network to judge, and how to build it.

    Attributes:
        name: ``reference:VARIANT``, ``module:callable``, or the path of a file.
        arguments: Keyword arguments as text; ``{output_stride}`` and ``{classes}`` are filled in.
        part: The part of the specification that the target implements; None for the whole network.
        choices: Choices of a reference that differ from its variant's.
        source: The module itself, or a callable that builds it; None if the name locates it.
    """

    name: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    part: str | None = None
    choices: Mapping[str, ChoiceValue] = field(default_factory=dict)
    source: nn.Module | Callable[..., object] | None = None

    @classmethod
    def of(cls, target: TargetLike, arguments: Mapping[str, object] | None = None) -> "Target":
        """Return the target of a public function: a name, a module, which is copied, or a callable that builds one.

        Raises:
            SpecError: If a reference has no such choice, or the choice no such value.
        """
        texts = {name: str(value) for name, value in (arguments or {}).items()}
        if isinstance(target, str):
            return parse_target(target, texts)
        name = getattr(target, "__qualname__", type(target).__qualname__)
        source = copy.deepcopy(target) if isinstance(target, nn.Module) else target
        return cls(name=name, arguments=texts, source=source)


def parse_target(name: str, arguments: Mapping[str, str]) -> Target:
    """Return a target from the command line; the arguments of a reference are its choices.

    Raises:
        SpecError: If a reference has no such choice, or the choice no such value.
    """
    if name.partition(":")[0] != REFERENCE:
        return Target(name=name, arguments=arguments)
    choices = read_overrides(f"{choice}={value}" for choice, value in arguments.items())
    full = name if ":" in name else f"{REFERENCE}:{VARIANTS[0].name}"
    return Target(name=full, arguments=arguments, choices=choices)


def load(target: Target, output_stride: int, classes: int) -> nn.Module:
    """Build a target, or read it from its file.

    Raises:
        TargetError: If it cannot be imported, built or read, or is not a module; the reason is one line.
        SpecError: If it is a reference that does not exist.
    """
    if not target.name.isprintable():
        raise TargetError(target.name, "must have a name of printable characters")
    if target.source is not None:
        return build(target, target.source, output_stride, classes)
    kind, _, variant = target.name.partition(":")
    if kind == REFERENCE:
        module: nn.Module = build_reference(variant, output_stride, classes, target.choices)
        return getattr(module, target.part) if target.part else module
    if is_file(target.name):
        return open_file(Path(target.name), target.name)
    return build(target, _import(target.name), output_stride, classes)


def _import(name: str) -> object:
    """Import ``module:attribute``; the working directory is searched last."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise TargetError(name, f"must be {REFERENCE}:VARIANT or MODULE:CALLABLE")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        value: object = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise TargetError(name, f"cannot import {module_name!r}: {one_line(error)}") from error
    for step in attribute.split("."):
        if not hasattr(value, step):
            raise TargetError(name, f"module {module_name!r} has no attribute {attribute!r}")
        value = getattr(value, step)
    return value


def build(target: Target, factory: object, output_stride: int, classes: int) -> nn.Module:
    """Call a factory with the target's arguments; a module is returned as it is.

    ``output_stride`` and ``num_classes`` are passed where the signature names them.

    Raises:
        TargetError: If the call fails, or does not return a module.
    """
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise TargetError(target.name, f"must be callable, but is a {type(factory).__name__}")
    arguments = {name: _value(text, output_stride, classes) for name, text in target.arguments.items()}
    try:
        names = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        names = inspect.signature(lambda: None).parameters
    for name, value in (("output_stride", output_stride), ("num_classes", classes)):
        if name in names:
            arguments.setdefault(name, value)
    try:
        module = factory(**arguments)
    except (Exception, SystemExit) as error:
        raise TargetError(target.name, f"cannot be built: {one_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise TargetError(target.name, f"must return a torch.nn.Module, but returned a {type(module).__name__}")
    return module


def _value(text: str, output_stride: int, classes: int) -> object:
    """Parse an argument: a Python literal if it is one, else text."""
    filled = text.replace("{output_stride}", str(output_stride)).replace("{classes}", str(classes))
    try:
        return ast.literal_eval(filled)
    except (ValueError, SyntaxError):
        return filled


def _read_pt2(path: Path, name: str) -> FileModule:
    from deeplab_spec.capture.pt2.file import read_pt2

    return read_pt2(path, name)


def _read_onnx(path: Path, name: str) -> FileModule:
    if any(find_spec(package) is None for package in _ONNX_PACKAGES):
        raise MissingExtraError("ONNX files", "onnx")
    from deeplab_spec.capture.onnx.file import read_onnx

    return read_onnx(path, name)


_READERS: Final[dict[str, Callable[[Path, str], FileModule]]] = {".pt2": _read_pt2, ".onnx": _read_onnx}

SUFFIXES: Final = tuple(_READERS)
"""Suffixes of the files that hold a network."""


def is_file(name: str) -> bool:
    """Tell whether a target is a file that holds a network, by its suffix."""
    return Path(name).suffix.lower() in SUFFIXES


def open_file(path: Path, name: str) -> FileModule:
    """Read a file as a network; the file is parsed and nothing in it is executed.

    Args:
        path: The file.
        name: The target as the user named it.

    Raises:
        TargetError: If it is missing, empty, a folder, of another kind, or cannot be read; the reason is one line.
        MissingExtraError: If it is an ONNX file, and the packages that read and run it are not installed.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise TargetError(name, f"must be a file whose name ends in {' or '.join(SUFFIXES)}")
    try:
        if not path.exists():
            raise TargetError(name, "there is no such file")
        if not path.is_file():
            raise TargetError(name, "is not a file")
        if not path.stat().st_size:
            raise TargetError(name, "is an empty file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise TargetError(name, f"cannot be read: {error.strerror or type(error).__name__}") from error
    return reader(path, name)
