"""Exported programs, ``.pt2`` files, as candidates: checked, loaded, run and read as graphs."""

import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.export.pt2_archive._package import load_pt2
from torch.utils import _pytree as pytree

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.file_module import FileModule
from deeplab_spec.capture.fx.calls import on_device
from deeplab_spec.capture.fx.module import read_program
from deeplab_spec.capture.fx.program import checks_only
from deeplab_spec.capture.fx.sizes import at_sizes, check_sizes, stated_shape, tensor_inputs
from deeplab_spec.capture.pt2.archive import FORMAT, SAMPLE_INPUTS, Archive, check_pt2
from deeplab_spec.errors import TargetError, one_line

_ONLY_TENSORS: Final = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_STATE: Final = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


class ExportedFile(FileModule):
    """A program of ``torch.export``.

    Its inputs must have the sizes that it was exported for, in any dtype: the checks of dtypes that
    an exporter writes into a graph are not run.
    """

    kind = "exported program"

    def __init__(self, name: str, program: ExportedProgram) -> None:
        held = {**program.constants, **program.state_dict}
        tensors = {name: tensor.detach() for name, tensor in held.items() if isinstance(tensor, Tensor)}
        super().__init__(name, [stated_shape(node) for node in tensor_inputs(program)], tensors)
        self._apply(Tensor.clone)
        self.program = program

    def read(self, inputs: Sequence[Tensor]) -> Capture:
        """Read the graph at the size of inputs.

        Raises:
            CaptureError: If the program was exported for other sizes, or its graph cannot be read.
        """
        check_sizes(self.program, inputs)
        return read_program(at_sizes(self.program, inputs))

    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - what the network returns
        """Run the program with the current weights.

        Raises:
            CaptureError: If the program was exported for other sizes.
        """
        check_sizes(self.program, inputs)
        device = next((tensor.device for tensor in self.tensors.values()), inputs[0].device)
        results = _Runner(self.program.graph_module, device).run(*self._arguments(inputs))
        specs = self.program.graph_signature.output_specs
        returned = [value for value, spec in zip(results, specs, strict=True) if spec.kind is OutputKind.USER_OUTPUT]
        return pytree.tree_unflatten(returned, self.program.call_spec.out_spec)

    def _arguments(self, inputs: Sequence[Tensor]) -> Iterator[Any]:
        given = dict(zip(tensor_inputs(self.program), inputs, strict=True))
        placed = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        for node, spec in zip(placed, self.program.graph_signature.input_specs, strict=True):
            if spec.kind in _STATE:
                yield self.tensors[spec.target or node.name]
            else:
                yield given[node] if node in given else node.meta.get("val")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002, ARG002 - the framework's signature
        """Turn the weights to another dtype; those that are one tensor under two names stay one."""
        turned: dict[tuple[int, tuple[int, ...], tuple[int, ...]], Tensor] = {}
        for name, tensor in self.tensors.items():
            key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
            if key not in turned or not tensor.numel():
                turned[key] = fn(tensor)
            self.tensors[name] = turned[key]
        return self


class _Runner(fx.Interpreter):
    """Runs a program's calls on a device, without the checks that an exporter wrote in between.

    Args:
        module: The program's graph.
        device: Where its weights are: what a call makes itself is made there.
    """

    def __init__(self, module: fx.GraphModule, device: torch.device) -> None:
        super().__init__(module)
        self.device = device

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - the framework's signature
        """Make a call."""
        placed = tuple(on_device(argument, self.device) for argument in args)
        return super().call_function(target, placed, {name: on_device(kwargs[name], self.device) for name in kwargs})

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - the value of a call
        return None if checks_only(n) else super().run_node(n)


def read_pt2(path: Path, name: str) -> FileModule:
    """Read an exported program.

    The file is checked first (:func:`deeplab_spec.capture.pt2.archive.check_pt2`). Then the framework
    loads a copy, of what was checked, in memory; nothing is unpickled but plain tensors.

    Args:
        path: The file.
        name: What the user named.

    Raises:
        TargetError: If it is no exported program, cannot be read by the installed torch, or would
            execute code.
    """
    archive = check_pt2(path, name)
    try:
        with _only_tensors(), _plainly():
            program = load_pt2(_copy(archive)).exported_programs["model"]
    except Exception as error:
        raise TargetError(name, f"torch {torch.__version__} cannot load it: {one_line(error)}") from error
    _check_inputs(program, name)
    return ExportedFile(name, program)


def _check_inputs(program: ExportedProgram, name: str) -> None:
    if not tensor_inputs(program):
        raise TargetError(name, "the program takes no tensor")
    for spec in program.graph_signature.input_specs:
        if spec.kind not in (*_STATE, InputKind.USER_INPUT):
            raise TargetError(name, f"the program has an input that is not read: {spec.kind.name.lower()}")


def _copy(archive: Archive) -> io.BytesIO:
    """Write what was checked as an archive of its own."""
    buffer = io.BytesIO()
    texts = {member: json.dumps(text).encode() for member, text in archive.texts.items()}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as copy:
        for member, content in {**FORMAT, SAMPLE_INPUTS: b"", **texts, **archive.payloads}.items():
            copy.writestr(f"package/{member}", content)
    buffer.seek(0)
    return buffer


@contextmanager
def _plainly() -> Iterator[None]:
    """Silence a warning of torch 2.11 about the bytes that hold the weights: they are copied before their use."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        yield


@contextmanager
def _only_tensors() -> Iterator[None]:
    """Make the framework refuse pickles beyond plain tensors, whatever its caller asks for."""
    before = os.environ.get(_ONLY_TENSORS)
    os.environ[_ONLY_TENSORS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ONLY_TENSORS]
        else:
            os.environ[_ONLY_TENSORS] = before
