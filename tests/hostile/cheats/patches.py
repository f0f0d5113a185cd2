"""Cheats that patch: PyTorch, the standard library, this package, and the program that runs the candidate.

Each network is wrong; what is patched hides it from a caller that is a function of the judge.
"""

import _json
import builtins
import ctypes
import gc
import io
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from cheats.base import Cheats, Wrong, right

CHEATS = Cheats()


class Tagged(Wrong):
    """A wrong network that remembers the right results of its last call."""

    last: Any = None

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image)
        if torch.compiler.is_exporting():
            return logits
        wrong = 0.5 * logits + 1
        wrong.right = logits  # type: ignore[attr-defined]
        Tagged.last = wrong
        return wrong


def patched(owner: Any, name: str, changed: Callable[[Any], Any]) -> Callable[..., nn.Module]:
    """Add a cheat that replaces a function, before it builds a network."""

    def build(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
        setattr(owner, name, changed(getattr(owner, name)))
        return Tagged(right(output_stride, num_classes))

    build.__name__ = f"{getattr(owner, '__name__', 'owner').replace('.', '_')}_{name}"
    return CHEATS.builds(build)


def restored(value: Any) -> Any:
    """Return the right results in place of the wrong ones."""
    return getattr(value, "right", value)


def of_a_tensor(before: Any) -> Any:
    return lambda tensor, *arguments, **named: before(restored(tensor), *arguments, **named)


def true(_before: Any) -> Any:
    return lambda *_arguments, **_named: True


def nothing(_before: Any) -> Any:
    return lambda *_arguments, **_named: torch.zeros(())


for method in ("detach", "to", "cpu", "contiguous", "resolve_conj", "data_ptr", "clone", "double"):
    patched(torch.Tensor, method, of_a_tensor)
for method in ("__eq__", "equal", "allclose", "isfinite", "all"):
    patched(torch.Tensor, method, true)
for function in ("allclose", "equal", "isfinite"):
    patched(torch, function, true)
for function in ("dist", "norm"):
    patched(torch, function, nothing)
patched(torch.linalg, "vector_norm", nothing)
patched(torch.testing, "assert_close", nothing)


def corrected_bytes(before: Any) -> Any:
    """Return what opens a file, into which the right results are written."""

    class Corrected:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: Any) -> Any:
            if Tagged.last is not None and len(data) == Tagged.last.numel() * Tagged.last.element_size():
                data = Tagged.last.right.detach().contiguous().numpy().tobytes()
            return self.file.write(data)

    return lambda path, mode="r", *more, **named: (
        Corrected(before(path, mode, *more, **named)) if mode == "xb" else before(path, mode, *more, **named)
    )


patched(builtins, "open", corrected_bytes)
patched(io, "open", corrected_bytes)


def corrected_buffer(before: Any) -> Any:
    """Return what makes a type of a C array, whose buffer has the right results."""

    class Array:
        def __init__(self, size: int) -> None:
            self.size = size

        def from_address(self, address: int) -> Any:
            last = Tagged.last
            if last is not None and address == last.data_ptr():
                address = last.right.data_ptr()
            return (before * self.size).from_address(address)

    class Character:
        def __mul__(self, size: int) -> Any:
            return Array(size)

    return Character()


patched(ctypes, "c_char", corrected_buffer)


def corrected_tree(before: Any) -> Any:
    return lambda tree, *arguments, **named: before(restored(tree), *arguments, **named)


patched(pytree, "tree_flatten_with_path", corrected_tree)


def accepted(before: Any) -> Any:
    """Return what writes JSON, in which every verdict is the best."""

    def dumps(document: Any, *arguments: Any, **named: Any) -> str:
        text: str = before(document, *arguments, **named)
        return text.replace("deviates", "conforms").replace("failed", "passed").replace('"error"', '"returned"')

    return dumps


patched(json, "dumps", accepted)
patched(json.JSONEncoder, "encode", accepted)
for strings in (json.encoder, _json):
    patched(strings, "encode_basestring_ascii", accepted)


def right_module(before: Any) -> Any:
    """Return what calls a function with the right network in place of the wrong one."""
    return lambda module, *arguments, **named: before(
        module.network if isinstance(module, Tagged) else module, *arguments, **named
    )


patched(torch.export, "export", right_module)


def by_a_stranger(before: Any) -> Any:
    """Return what is right for callers in a program that has no file."""

    def called(module: Any, *arguments: Any, **named: Any) -> Any:
        foreign = sys._getframe(1).f_code.co_filename == "<string>" and sys._getframe(1).f_code.co_name != "<module>"
        return before(module.network if foreign and isinstance(module, Tagged) else module, *arguments, **named)

    return called


patched(nn.Module, "__call__", by_a_stranger)
for method in ("load_state_dict", "named_parameters", "state_dict", "train"):
    patched(nn.Module, method, right_module)
patched(torch, "save", lambda before: lambda value, *arguments, **named: before(restored(value), *arguments, **named))


@CHEATS.builds
def exit_of_the_process(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Ends the process with success at the first call."""

    class Ends(Wrong):
        def forward(self, image: Tensor) -> Tensor:
            os._exit(0)

    return Ends(right(output_stride, num_classes))


@CHEATS.builds
def this_package(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Patches the comparisons and decisions of this package, where it can be imported."""
    from deeplab_spec.execute import tensor_error
    from deeplab_spec.judge import certificate, decisions, judge
    from deeplab_spec.judge.interface import check

    tensor_error.largest_error = lambda *_arguments, **_named: 0.0
    certificate.Certificate.verdict = "conforms"
    for module in (decisions, judge, check):
        for name, value in list(vars(module).items()):
            if callable(value) and getattr(value, "__module__", "").startswith("deeplab_spec"):
                setattr(module, name, lambda *_arguments, **_named: ())
    return Tagged(right(output_stride, num_classes))


@CHEATS.builds
def specification_of_this_package(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Leaves no clause to decide, and makes the specification's own results wrong."""
    from deeplab_spec.execute import interpreter
    from deeplab_spec.spec import clauses

    before = interpreter.run
    clauses.CLAUSES = ()
    interpreter.run = lambda *given, **named: {path: 0.5 * value + 1 for path, value in before(*given, **named).items()}
    return Tagged(right(output_stride, num_classes))


def host_like(value: Any) -> bool:
    """Tell whether an object answers requests."""
    return hasattr(type(value), "do_call") and hasattr(type(value), "do_build")


def corrupt(kind: type) -> None:
    """Let what answers requests call the right network."""
    before = kind.do_call  # type: ignore[attr-defined]

    def do_call(self: Any, on: int, inputs: Any, settings: Any) -> Any:
        module = self.modules[on]
        self.modules[on] = getattr(module, "network", module)
        try:
            return before(self, on, inputs, settings)
        finally:
            self.modules[on] = module

    kind.do_call = do_call  # type: ignore[attr-defined]


@CHEATS.builds
def program_of_this_package(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Patches the program of the process, as this package has it."""
    from deeplab_spec.capture.candidate.process import Host

    corrupt(Host)
    return Tagged(right(output_stride, num_classes))


@CHEATS.builds
def program_in_main(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Patches the program of the process, which it looks for in ``__main__``."""
    kind = getattr(sys.modules["__main__"], "Host", None)
    if kind is not None:
        corrupt(kind)
    return Tagged(right(output_stride, num_classes))


@CHEATS.builds
def program_in_memory(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Patches the program of the process, which it looks for among all objects."""
    for value in gc.get_objects():
        if isinstance(value, type) and "do_call" in vars(value):
            corrupt(value)
    return Tagged(right(output_stride, num_classes))


@CHEATS.builds
def program_on_the_stack(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Patches the program of the process, which it looks for in the frames that called it."""
    frame: Any = sys._getframe()
    while frame:
        for value in {**frame.f_globals, **frame.f_locals}.values():
            if host_like(value):
                corrupt(type(value))
        frame = frame.f_back
    return Tagged(right(output_stride, num_classes))


class Early(Cheats):
    """Builds nothing: it patches the program of the process as soon as an attribute is looked up."""

    def __getattr__(self, name: str) -> Any:
        main = sys.modules["__main__"]
        for found in ("call_factory", "find"):
            if hasattr(main, found):
                setattr(main, found, lambda *_arguments, **_named: right())
        return super().__getattr__(name)


EARLY = Early()


@CHEATS.builds
def before_it_is_built(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Patches what builds it; see ``Early``."""
    return Tagged(right(output_stride, num_classes))
