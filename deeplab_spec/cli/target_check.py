"""Refuses a misspelled module or callable at once: from the text of the module, before anything is imported or started.

Only what is certainly wrong is refused. A module that makes its names as it runs, or that another Python finds, is left
to the process that imports it.
"""

import ast
import pkgutil
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import typer

from deeplab_spec.capture.candidate.start import ProcessSettings, starting
from deeplab_spec.errors import TargetError, did_you_mean
from deeplab_spec.spec.variants import REFERENCE, variant

_DYNAMIC: Final = frozenset({"globals", "vars", "locals", "exec", "eval", "setattr", "modules", "__getattr__"})
"""Names by which a module can make others."""
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_MISSING: Final = "ModuleNotFoundError: No module named"
_LARGEST: Final = 2_000_000
"""Bytes of a module that is read."""


def check_targets(settings: ProcessSettings, *targets: str | None) -> None:
    """Check that the modules and callables of targets exist, as far as their text says; a file and None pass.

    Raises:
        TargetError: If a module or callable does not exist; the reason has the most similar name.
        SpecError: If a reference has no such variant.
    """
    for target in targets:
        module, _, attribute = (target or "").partition(":")
        if target and not target.isprintable():
            raise TargetError(target, "must have a name of printable characters")
        if attribute and module == REFERENCE:
            variant(attribute)
        elif target and attribute and not settings.python and (module.endswith(".py") or _is_dotted(module)):
            _check(target, module, attribute.partition(".")[0], settings)


def ready(context: typer.Context, settings: ProcessSettings, *targets: str | None) -> ProcessSettings:
    """Check targets, and start the process of one while the command imports PyTorch; return settings with it.

    Raises:
        TargetError: If a module or callable does not exist.
        SpecError: If a reference has no such variant.
    """
    check_targets(settings, *targets)
    return context.with_resource(starting(settings, *targets))


def _is_dotted(module: str) -> bool:
    return all(part.isidentifier() for part in module.split("."))


def _check(target: str, module: str, attribute: str, settings: ProcessSettings) -> None:
    folders = [*map(Path, settings.search), Path.cwd()]
    path = _file(target, module) if module.endswith(".py") else _module(target, module, folders)
    names = _names(path) if path else None
    if names is not None and attribute not in names:
        hint = did_you_mean(attribute, names)
        raise TargetError(target, f"module {module!r} has no attribute {attribute!r}{hint}")


def _file(target: str, name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    others = [entry.name for entry in path.parent.glob("*.py")] if path.parent.is_dir() else []
    raise TargetError(target, f"cannot import {name!r}: there is no such file{did_you_mean(path.name, others)}")


def _module(target: str, module: str, folders: list[Path]) -> Path | None:
    """Return the file of a module; None if the text of files does not say which it is."""
    first, *rest = module.split(".")
    everywhere = [*map(Path, sys.path), *folders]
    found = next((folder for folder in everywhere if _exists(folder / first)), None)
    if found is None:
        if find_spec(first) is None:
            _refuse(target, module, first, everywhere)
        return None
    path = found / first
    for part in rest:
        if not _exists(path / part):
            if found in folders and path.is_dir():
                _refuse(target, module, part, [path])
            return None
        path /= part
    plain, package = path.with_suffix(".py"), path / "__init__.py"
    return package if package.is_file() else plain if plain.is_file() else None


def _exists(path: Path) -> bool:
    return path.is_dir() or any(path.with_name(path.name + end).is_file() for end in (".py", *EXTENSION_SUFFIXES))


def _refuse(target: str, module: str, part: str, folders: list[Path]) -> None:
    missing = module[: module.index(part) + len(part)]
    known = {entry.name for entry in pkgutil.iter_modules(map(str, folders))}
    raise TargetError(target, f"cannot import {module!r}: {_MISSING} {missing!r}{did_you_mean(part, known)}")


def _names(path: Path) -> set[str] | None:
    """Return the names that a module's text defines; None if it can make others."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # the process that imports it says what is wrong
    names = {entry.stem for entry in path.parent.glob("*")} if path.name == "__init__.py" else set()
    for node in ast.walk(tree):
        used = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", None)
        if used in _DYNAMIC or (isinstance(node, ast.alias) and node.name == "*"):
            return None
        if isinstance(node, ast.Global):
            names.update(node.names)
    return names.union(*map(_defined, _statements(tree)))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a module that run when it is imported, except those in functions and classes."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, _SCOPES):
            yield from _statements(node)


def _defined(node: ast.AST) -> set[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.alias(name=name, asname=other):
            return {other or name.partition(".")[0]}
        case ast.Name(id=name, ctx=ast.Store()) | ast.ExceptHandler(name=str(name)):
            return {name}
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            return {name}
        case _:
            return set()
