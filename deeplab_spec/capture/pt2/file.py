"""Loads exported programs, ``.pt2`` files: checks them, reads their graphs, and runs them in a candidate's process."""

import io
import json
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.export.pt2_archive._package import load_pt2
from torch.utils._sympy.numbers import int_oo

from deeplab_spec.capture.candidate.connection import Connection, LocalConnection
from deeplab_spec.capture.candidate.module import Remote, RequestError
from deeplab_spec.capture.candidate.process import Refused, program_document
from deeplab_spec.capture.capture import CallSettings, Candidate, Capture, Returned, Shape
from deeplab_spec.capture.fx.document import read_document
from deeplab_spec.capture.fx.program import PartialAliasError, read_program
from deeplab_spec.capture.pt2.archive import check_pt2
from deeplab_spec.child_process import Document
from deeplab_spec.errors import CaptureError, ChildError, GraphError, TargetError, one_line

_ONLY_TENSORS: Final = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_STATE: Final = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


class ExportedFile(Candidate):
    """A program of ``torch.export``.

    Inputs must have the sizes that it was exported for. They may have any dtype: the exporter's dtype
    checks are not run.
    """

    kind = "exported program"
    inference_only = "an exported program is for inference only"

    def __init__(self, name: str, program: ExportedProgram, connection: Connection) -> None:
        state = {**program.constants, **program.state_dict}
        tensors = {name: tensor.detach() for name, tensor in state.items() if isinstance(tensor, Tensor)}
        super().__init__(name, [_stated_shape(node) for node in _tensor_inputs(program)], _copied(tensors))
        self.program = program
        self.document = program_document(program)
        self.remote = Remote(name, connection, self._request)

    def _request(self) -> Document:
        packed = self.remote.connection.pack(self.tensors)
        return {"do": "build_program", "document": self.document, "tensors": packed}

    def read(self, inputs: Sequence[Tensor]) -> Capture:
        """Read the graph at the size of inputs."""
        self.check_inputs(inputs)
        shapes = [tuple(tensor.shape) for tensor in inputs]
        try:
            return read_program(read_document(self.document, shapes, self.tensors, {}))
        except PartialAliasError:
            pass
        except (CaptureError, GraphError):
            raise
        except Exception as error:  # the framework checks less of a program than it uses
            raise CaptureError(f"its graph cannot be read: {one_line(error)}") from error
        try:
            document = program_document(self.program.run_decompositions({}))
            return read_program(read_document(document, shapes, self.tensors, {}))
        except Exception as error:
            raise CaptureError(f"in-place operations on views cannot be resolved: {one_line(error)}") from error

    def call(self, inputs: Sequence[Tensor], settings: CallSettings = CallSettings()) -> Returned:  # noqa: B008 - frozen
        """Run the program with the current tensors; what it raises is an error in the answer."""
        try:
            self.check_inputs(inputs)
            self.remote.load(self.tensors)
        except (CaptureError, RequestError, ChildError, TargetError) as error:
            return Returned(error=str(error))
        return self.remote.call(inputs, settings)

    def check_inputs(self, inputs: Sequence[Tensor]) -> None:
        """Reject inputs of another number or size than the program was exported for."""
        super().check_inputs(inputs)
        _check_symbols(self.program, inputs)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors; one tensor under two names stays one."""
    copies: dict[object, Tensor] = {}
    return {
        name: copies.setdefault(
            (tensor.data_ptr(), tuple(tensor.shape), tensor.stride()) if tensor.numel() else name, tensor.clone()
        )
        for name, tensor in tensors.items()
    }


def read_pt2(path: Path, name: str, connection: Connection | None = None) -> Candidate:
    """Read an exported program; without a connection, it runs in this process.

    The file is checked first (:func:`deeplab_spec.capture.pt2.archive.check_pt2`). The framework then
    loads an in-memory copy of the checked content; only plain tensors are unpickled.

    Raises:
        TargetError: If it is not an exported program, cannot be read by the installed torch, or would
            execute code.
    """
    members = check_pt2(path, name)
    try:
        with _only_tensors(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")  # it is copied before use
            program = load_pt2(_zipped(members)).exported_programs["model"]
    except Exception as error:
        raise TargetError(name, f"torch {torch.__version__} cannot load it: {one_line(error)}") from error
    _check_inputs(program, name)
    try:
        return ExportedFile(name, program, connection or LocalConnection())
    except (CaptureError, Refused) as error:
        raise TargetError(name, str(error)) from error


def _check_inputs(program: ExportedProgram, name: str) -> None:
    if not _tensor_inputs(program):
        raise TargetError(name, "the program takes no tensor")
    for spec in program.graph_signature.input_specs:
        if spec.kind not in (*_STATE, InputKind.USER_INPUT):
            raise TargetError(name, f"the program has an input that is not read: {spec.kind.name.lower()}")


def _zipped(members: Mapping[str, Any]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as copy:
        for member, content in members.items():
            copy.writestr(f"package/{member}", content if isinstance(content, bytes) else json.dumps(content))
    buffer.seek(0)
    return buffer


@contextmanager
def _only_tensors() -> Iterator[None]:
    """Make the framework refuse every pickle beyond plain tensors."""
    before = os.environ.get(_ONLY_TENSORS)
    os.environ[_ONLY_TENSORS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ONLY_TENSORS]
        else:
            os.environ[_ONLY_TENSORS] = before


_FROM_ONE: Final = 2
"""The lowest bound that an exporter states; as in the framework, it allows any size."""


def _tensor_inputs(program: ExportedProgram) -> tuple[fx.Node, ...]:
    """Return the placeholders of the caller's tensors, in order."""
    names = set(program.graph_signature.user_inputs)
    placed = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return tuple(node for node in placed if isinstance(node.meta.get("val"), Tensor))


def _stated_shape(node: fx.Node) -> Shape:
    """Return the shape of a value; None for a symbolic side."""
    return tuple(side if isinstance(side, int) else None for side in node.meta["val"].shape)


def _check_symbols(program: ExportedProgram, inputs: Sequence[Tensor]) -> None:
    """Reject sides that disagree although the program relates them to each other, or that the exporter excludes."""
    values: dict[Any, int] = {}
    for name, expression, size in sorted(_symbolic(program, inputs), key=lambda item: not item[1].is_symbol):
        if expression.is_symbol:
            expected = values.setdefault(expression, size)
            allowed = program.range_constraints.get(expression)
            least = allowed.lower if allowed is not None and allowed.lower > _FROM_ONE else 0
            if allowed is not None and not least <= size <= allowed.upper:
                text = f"of {least} or more" if allowed.upper == int_oo else f"from {least} to {allowed.upper}"
                raise CaptureError(f"the program was exported for a side of {name} {text}, but got {size}")
        else:
            expected = int(expression.subs(values))
        if expected != size:
            raise CaptureError(f"the program was exported for a side of {name} of {expected} here, but got {size}")


def _symbolic(program: ExportedProgram, inputs: Sequence[Tensor]) -> Iterator[tuple[str, Any, int]]:
    """Yield the input's name, the expression and the actual size of every symbolic side."""
    for node, tensor in zip(_tensor_inputs(program), inputs, strict=True):
        for side, size in zip(node.meta["val"].shape, tensor.shape, strict=True):
            if isinstance(side, torch.SymInt):
                yield node.name, side.node.expr, int(size)
