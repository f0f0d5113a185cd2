"""Captures a module: its graph through ``torch.export``."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Final

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.equivalences.crops import move_crops_earlier
from deeplab_spec.capture.equivalences.norms import merge_norm_arithmetic
from deeplab_spec.capture.file_module import FileModule
from deeplab_spec.capture.fx.program import PartialAliasError, ProgramReader
from deeplab_spec.errors import CaptureError, one_line
from deeplab_spec.graph.ops import Pair

_NO_TRACES: Final = "do_not_emit_stack_traces"


def uncompiled(module: nn.Module) -> nn.Module:
    """Return the module that a compiler was given; any other module is its own original."""
    compiled = dict(module.named_children()).get("_orig_mod")
    return module if compiled is None else compiled


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer by name, also those that are not saved."""
    if isinstance(module, FileModule):
        return dict(module.tensors)
    module = uncompiled(module)
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach() for name, tensor in named}


def shared_parameters(module: nn.Module, captured: Capture) -> Iterator[str]:
    """Return the nodes all of whose parameters belong to a node before them too."""
    pointers = {name: tensor.data_ptr() for name, tensor in state_of(module).items()}
    seen: set[int] = set()
    for path, names in groupby(captured.parameters.items(), key=lambda item: item[0].rpartition(".")[0]):
        mine = {pointers.get(name, 0) for _, name in names} - {0}
        if mine and mine <= seen:
            yield path
        seen |= mine


def capture(module: nn.Module, inputs: Sequence[Tensor]) -> Capture:
    """Read the graph of a module in evaluation.

    Args:
        module: The implementation: a module, compiled or not, or a file.
        inputs: Its arguments, of the size that it is captured with.

    Returns:
        The graph, with an output for every tensor that the module returns, named as it is reached
        in the result: ``""``, ``[0]``, ``['out']``.

    Raises:
        CaptureError: If it cannot be exported or read; the reason is the first line of who refused it.
    """
    if isinstance(module, FileModule):
        return module.read(inputs)
    return read_program(export(module, inputs))


def export(module: nn.Module, inputs: Sequence[Tensor]) -> ExportedProgram:
    """Export a module in evaluation at the size of inputs; of a compiled one, what was compiled.

    Raises:
        CaptureError: If the exporter refuses it.
    """
    try:
        with torch.no_grad(), _no_stack_traces(), _quietly():
            return torch.export.export(uncompiled(module).eval(), tuple(inputs), strict=False)
    except Exception as error:
        raise CaptureError(f"torch.export refused the module: {one_line(error)}") from error


def read_program(program: ExportedProgram) -> Capture:
    """Read the graph of an exported program of fixed sizes.

    Raises:
        CaptureError: If it holds nested programs, or overwrites values in a way that cannot be resolved.
    """
    try:
        return _plainly(ProgramReader(program).read())
    except PartialAliasError:
        try:
            program = program.run_decompositions({})
        except Exception as error:
            raise CaptureError(f"in-place operations on views cannot be resolved: {one_line(error)}") from error
        return _plainly(ProgramReader(program).read())


def _plainly(captured: Capture) -> Capture:
    """Return a capture with records for what several calls compute together."""
    return move_crops_earlier(merge_norm_arithmetic(captured))


@contextmanager
def _no_stack_traces() -> Iterator[None]:
    """Spare the exporter writing down where in the source each call was made: a sixth of its time, read by nobody."""
    if not hasattr(fx.config, _NO_TRACES):  # an older torch cannot leave it out
        yield
        return
    before = getattr(fx.config, _NO_TRACES)
    setattr(fx.config, _NO_TRACES, True)
    try:
        yield
    finally:
        setattr(fx.config, _NO_TRACES, before)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep torch from printing a stack for what it refuses, which is raised too: another size may be accepted."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


_COLOURS: Final = 3
"""Channels of an image, unless the network reads others."""

_BATCH_OF_MAPS: Final = 4


def capture_at(module: nn.Module, size: Pair) -> Capture:
    """Read the graph of a network of images at the size of one image.

    Raises:
        CaptureError: If it cannot be exported, read or run at the size.
    """
    refused: CaptureError | None = None
    for channels in _channels(module):
        try:
            return capture(module, (torch.zeros(_batch(module), channels, *size),))
        except CaptureError as error:
            refused = refused or error
    raise refused or CaptureError("it has no channels")


def map_shapes(captured: Capture) -> Mapping[str, tuple[int, ...]]:
    """Return channels, height and width of every value; empty for what is no batch of maps."""
    return {path: shape[1:] if len(shape) == _BATCH_OF_MAPS else () for path, shape in captured.shapes.items()}


def fixed_size(module: nn.Module) -> Pair | None:
    """Return the height and width that a file fixes; None where an image of any size may be given."""
    if not isinstance(module, FileModule) or not module.shapes or len(module.shapes[0]) != _BATCH_OF_MAPS:
        return None
    height, width = module.shapes[0][2:]
    return None if height is None or width is None else (height, width)


def _batch(module: nn.Module) -> int:
    stated = module.shapes[0][0] if isinstance(module, FileModule) and module.shapes and module.shapes[0] else None
    return stated or 1


def _channels(module: nn.Module) -> tuple[int, ...]:
    """Return how many channels the images may have, the likeliest first; the kernel stored first may be any."""
    if isinstance(module, FileModule) and module.shapes and len(module.shapes[0]) == _BATCH_OF_MAPS:
        return (module.shapes[0][1] or _COLOURS,)
    kernels = (tensor.shape[1] for tensor in state_of(module).values() if tensor.ndim == _BATCH_OF_MAPS)
    return tuple(dict.fromkeys((_COLOURS, next(kernels, _COLOURS))))
