"""Captures networks: reads the graph of a module or a candidate at a size."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.capture.candidate import process
from deeplab_spec.capture.candidate.module import local
from deeplab_spec.capture.capture import Candidate, Capture
from deeplab_spec.errors import CaptureError, TargetError, one_line
from deeplab_spec.graph.ops import MAP_RANK, Pair

_COLOURS: Final = 3
"""Channels of an image, unless the network reads another number."""

MOST_PIXELS: Final = 2**22
"""Pixels of the largest batch with which a file is run, as of an image of 2048x2048; its graph is read at any size."""


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer by name, including those that are not saved."""
    if isinstance(module, Candidate):
        return dict(module.tensors)
    return {name: tensor.detach() for name, tensor in process.finish(process.state_of(module)).items()}


def shared_parameters(module: nn.Module, captured: Capture) -> Iterator[str]:
    """Yield the nodes whose parameters all belong to an earlier node too."""
    pointers = {name: tensor.data_ptr() for name, tensor in state_of(module).items()}
    seen: set[int] = set()
    for path, names in groupby(captured.parameters.items(), key=lambda item: item[0].rpartition(".")[0]):
        own = {pointers.get(name, 0) for _, name in names} - {0}
        if own and own <= seen:
            yield path
        seen |= own


def capture(module: nn.Module, inputs: Sequence[Tensor]) -> Capture:
    """Read the graph of a module in evaluation, at the size of its arguments.

    Every tensor that it returns is an output, named by its position in the result: ``""``, ``[0]``, ``['out']``.

    Raises:
        CaptureError: If it cannot be exported or read; the message is the first line of the error.
    """
    return (module if isinstance(module, Candidate) else local(module)).read(inputs)


def capture_at(module: nn.Module, size: Pair) -> Capture:
    """Read the graph of a network that takes a batch of images, of channels that are inferred, at an image's size.

    Raises:
        CaptureError: If it cannot be exported, read or run at the size.
    """
    stated = _image_shape(module)
    first: CaptureError | None = None
    for channels in _image_channels(module):
        shape = ((stated and stated[0]) or 1, channels, *size)
        image = torch.zeros(1).expand(shape) if stated else torch.zeros(shape)  # of a file, the shape is read only
        try:
            return capture(module, (image,))
        except CaptureError as error:
            first = first or error
    raise first or CaptureError("it has no channels")


def capture_target(module: nn.Module, size: Pair, name: str) -> Capture:
    """Read the graph of a user's network at the size of one image, as :func:`capture_at` does.

    Raises:
        TargetError: If it cannot be exported, read or run at the size; the error has the network's name.
    """
    try:
        return capture_at(module, size)
    except CaptureError as error:
        raise TargetError(name, f"cannot be read at {size[0]}x{size[1]}: {one_line(error)}") from error


def map_shapes(captured: Capture) -> Mapping[str, tuple[int, ...]]:
    """Return channels, height and width of every value by path; empty for a value that is not a batch of maps."""
    return {path: shape[1:] if len(shape) == MAP_RANK else () for path, shape in captured.shapes.items()}


def check_runnable(module: Candidate) -> None:
    """Refuse a file that can be run with more pixels only than memory is meant for.

    Raises:
        TargetError: If it states such an input.
    """
    for batch, _, *sides in (shape for shape in module.shapes if len(shape) == MAP_RANK):
        if math.prod(side or 1 for side in (batch, *sides)) > MOST_PIXELS:
            stated = "x".join(str(side or "any") for side in (batch, *sides))
            rule = f"it would be run with inputs of {stated} pixels; at most {MOST_PIXELS:,} are accepted"
            raise TargetError(module.name, rule)


def fixed_size(module: nn.Module) -> Pair | None:
    """Return the height and width that a file fixes; None if it takes images of any size."""
    shape = _image_shape(module)
    if len(shape) != MAP_RANK or shape[2] is None or shape[3] is None:
        return None
    return (shape[2], shape[3])


def _image_shape(module: nn.Module) -> tuple[int | None, ...]:
    """Return the shape that a file states for its first input; empty for any other module."""
    return module.shapes[0] if isinstance(module, Candidate) and module.shapes else ()


def _image_channels(module: nn.Module) -> tuple[int, ...]:
    """Return the possible numbers of image channels, the most likely first: the first stored kernel may be any."""
    shape = _image_shape(module)
    if len(shape) == MAP_RANK:
        return (shape[1] or _COLOURS,)
    kernels = (tensor.shape[1] for tensor in state_of(module).values() if tensor.ndim == MAP_RANK)
    return tuple(dict.fromkeys((_COLOURS, next(kernels, _COLOURS))))
