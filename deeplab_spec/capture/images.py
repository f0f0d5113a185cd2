"""Captures what takes one batch of images, whatever its channels."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import nn

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.file_module import Artefact
from deeplab_spec.capture.fx.module import capture, state_of
from deeplab_spec.errors import CaptureError
from deeplab_spec.graph.ops import Pair

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


def maps(captured: Capture) -> Mapping[str, tuple[int, ...]]:
    """Return channels, height and width of every value; empty for what is no batch of maps."""
    return {path: shape[1:] if len(shape) == _BATCH_OF_MAPS else () for path, shape in captured.shapes.items()}


def own_size(module: nn.Module) -> Pair | None:
    """Return the height and width that a file fixes; None where an image of any size may be given."""
    if not isinstance(module, Artefact) or not module.shapes or len(module.shapes[0]) != _BATCH_OF_MAPS:
        return None
    height, width = module.shapes[0][2:]
    return None if height is None or width is None else (height, width)


def _batch(module: nn.Module) -> int:
    stated = module.shapes[0][0] if isinstance(module, Artefact) and module.shapes and module.shapes[0] else None
    return stated or 1


def _channels(module: nn.Module) -> tuple[int, ...]:
    """Return how many channels the images may have, the likeliest first; the kernel stored first may be any."""
    if isinstance(module, Artefact) and module.shapes and len(module.shapes[0]) == _BATCH_OF_MAPS:
        return (module.shapes[0][1] or _COLOURS,)
    kernels = (tensor.shape[1] for tensor in state_of(module).values() if tensor.ndim == _BATCH_OF_MAPS)
    return tuple(dict.fromkeys((_COLOURS, next(kernels, _COLOURS))))
