"""Locks a target: captures its network, finds the nearest published network and records both."""

import contextlib
import sys
from dataclasses import dataclass

from deeplab_spec.align.lock import Lock
from deeplab_spec.capture.target import Target, is_file, load
from deeplab_spec.errors import CaptureError, TargetError
from deeplab_spec.judge.build import locked
from deeplab_spec.spec.network import DEFAULT_CLASSES, DEFAULT_OUTPUT_STRIDE
from deeplab_spec.views.progress import Progress, silent

_STAGES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """A request to lock a network.

    Attributes:
        target: The target.
        output_stride: The output stride to build it for; None for the default, or for that of a file.
        classes: Channels of the logits; None for the default, or for those of a file.
    """

    target: Target
    output_stride: int | None = None
    classes: int | None = None


def lock_target(request: LockRequest, progress: Progress = silent) -> Lock:
    """Lock a network.

    Raises:
        TargetError: If it cannot be imported, built or read, or has unknown operations.
    """
    target = request.target
    stated = is_file(target.name)
    output_stride = request.output_stride or (None if stated else DEFAULT_OUTPUT_STRIDE)
    progress("building", 0, _STAGES)
    with contextlib.redirect_stdout(sys.stderr):
        module = load(target, output_stride or DEFAULT_OUTPUT_STRIDE, request.classes or DEFAULT_CLASSES).eval()
        progress("reading the graph", 1, _STAGES)
        try:
            lock = locked(module, target.name, output_stride)
        except CaptureError as error:
            raise TargetError(target.name, f"cannot be locked: {error}") from error
    progress("done", _STAGES, _STAGES)
    return lock
