"""Builds the network that the user names: a reference, a callable, or a file."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from torch import nn

from deeplab_spec.capture.candidate.connection import Connection, LocalConnection, ProcessConnection
from deeplab_spec.capture.candidate.module import ModuleCandidate, Remote, local
from deeplab_spec.capture.candidate.process import Refused, call_factory, find, finish
from deeplab_spec.capture.candidate.start import HERE, ProcessSettings
from deeplab_spec.capture.capture import Candidate
from deeplab_spec.errors import MissingExtraError, TargetError, one_line
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.reference.network import build as build_reference
from deeplab_spec.spec.choices import ChoiceValue, read_overrides
from deeplab_spec.spec.variants import REFERENCE, VARIANTS, family_of

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
        process: How the process that it runs in is started.
    """

    name: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    part: str | None = None
    choices: Mapping[str, ChoiceValue] = field(default_factory=dict)
    source: nn.Module | Callable[..., object] | None = None
    process: ProcessSettings = HERE

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
        return cls(name=name, arguments=texts, source=target)


def parse_target(name: str, arguments: Mapping[str, str], process: ProcessSettings = HERE) -> Target:
    """Return a target from the command line; the arguments of a reference are its choices.

    Raises:
        SpecError: If a reference has no such choice, or the choice no such value.
    """
    if name.partition(":")[0] != REFERENCE:
        return Target(name=name, arguments=arguments, process=process)
    full = name if ":" in name else f"{REFERENCE}:{VARIANTS[0].name}"
    family = family_of(full)
    choices = read_overrides((f"{choice}={value}" for choice, value in arguments.items()), family)
    return Target(name=full, arguments=arguments, choices=choices)


def _connection(settings: ProcessSettings) -> Connection:
    """Return a connection to a process, which is not started yet."""
    return ProcessConnection(settings)


def connect(target: Target, output_stride: int, classes: int, seed: int = 0) -> Candidate:
    """Build a target, or read it from its file; the seed is that of random numbers that are drawn while it is built.

    Foreign code runs in a process of its own. References, and modules and callables of the caller, run in this one.

    Raises:
        TargetError: If it cannot be imported, built or read, or is not a module; the reason is one line.
        SpecError: If it is a reference that does not exist.
    """
    if not target.name.isprintable():
        raise TargetError(target.name, "must have a name of printable characters")
    kind, colon, variant = target.name.partition(":")
    if target.source is None and is_file(target.name):
        return open_file(Path(target.name), target.name, _connection(target.process))
    if target.source is not None or kind == REFERENCE:
        return local(build_here(target, output_stride, classes, seed), target.name)
    if not colon or not kind or not variant:
        raise TargetError(target.name, f"must be {REFERENCE}:VARIANT or MODULE:CALLABLE")
    request = {
        "do": "build",
        "seed": seed,
        "module": kind,
        "attribute": variant,
        "texts": _texts(target, output_stride, classes),
        "filled": {"output_stride": output_stride, "num_classes": classes},
        "search": [*target.process.search, str(Path.cwd())],
    }
    return ModuleCandidate(Remote(target.name, _connection(target.process), lambda: request))


def build_here(target: Target, output_stride: int, classes: int, seed: int = 0) -> nn.Module:
    """Build a target in this process, which must be one that foreign code may run in.

    Raises:
        TargetError: If it cannot be imported or built, or is not a module; the reason is one line.
        SpecError: If it is a reference that does not exist.
    """
    kind, _, variant = target.name.partition(":")
    if target.source is None and kind != REFERENCE and (not kind or not variant) and not is_file(target.name):
        raise TargetError(target.name, f"must be {REFERENCE}:VARIANT or MODULE:CALLABLE")
    if target.source is None and is_file(target.name):
        file = open_file(Path(target.name), target.name, connection := LocalConnection())
        file.remote.ready()
        hosted: nn.Module = connection.host.modules[file.remote.number]
        return hosted
    with torch.random.fork_rng(devices=[]), float32_products(tf32=False):
        torch.manual_seed(seed)
        if target.source is None and kind == REFERENCE:
            module: nn.Module = build_reference(variant, output_stride, classes, target.choices)
            return getattr(module, target.part) if target.part else module
        filled = {"output_stride": output_stride, "num_classes": classes}
        try:
            factory = target.source
            if factory is None:
                factory = finish(find(kind, variant, [str(Path.cwd())]))
            factory = copy.deepcopy(factory) if isinstance(factory, nn.Module) else factory
            built: nn.Module = finish(call_factory(factory, _texts(target, output_stride, classes), filled))
        except Refused as refused:
            raise TargetError(target.name, str(refused)) from refused
        except (Exception, SystemExit) as error:
            raise TargetError(target.name, f"cannot import {kind!r}: {one_line(error)}") from error
    return built


def _texts(target: Target, output_stride: int, classes: int) -> dict[str, str]:
    """Return the arguments of a target, with the output stride and the classes filled in."""
    return {
        name: text.replace("{output_stride}", str(output_stride)).replace("{classes}", str(classes))
        for name, text in target.arguments.items()
    }


def _read_pt2(path: Path, name: str, connection: Connection | None) -> Candidate:
    from deeplab_spec.capture.pt2.file import read_pt2

    return read_pt2(path, name, connection)


def _read_onnx(path: Path, name: str, connection: Connection | None) -> Candidate:
    if any(find_spec(package) is None for package in _ONNX_PACKAGES):
        raise MissingExtraError("ONNX files", "onnx")
    from deeplab_spec.capture.onnx.file import read_onnx

    return read_onnx(path, name, connection)


_READERS: Final[dict[str, Callable[[Path, str, Connection | None], Candidate]]] = {
    ".pt2": _read_pt2,
    ".onnx": _read_onnx,
}

SUFFIXES: Final = tuple(_READERS)
"""Suffixes of the files that hold a network."""


def is_file(name: str) -> bool:
    """Tell whether a target is a file that holds a network, by its suffix."""
    return Path(name).suffix.lower() in SUFFIXES


def open_file(path: Path, name: str, connection: Connection | None = None) -> Candidate:
    """Read a file as a network; the file is parsed and nothing in it is executed. Without a connection, it runs here.

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
    return reader(path, name, connection)
