"""Locks a target: captures its network, finds the nearest published network and records both; the document of ``lock``.

The document has the locked network without its nodes, which are in the lock file.
"""

import contextlib
import sys
from typing import Any

from pydantic import Field, ValidationError

from deeplab_spec.align import lock_file
from deeplab_spec.align.lock import Lock
from deeplab_spec.capture.target import Target, connect, is_file
from deeplab_spec.errors import CaptureError, TargetError, one_line
from deeplab_spec.judge.build import locked
from deeplab_spec.spec.choices import plain
from deeplab_spec.spec.network import DEFAULT_CLASSES, DEFAULT_OUTPUT_STRIDE
from deeplab_spec.views.document import Document, Model
from deeplab_spec.views.progress import Progress, silent

_STAGES = 2


def lock_target(
    target: Target, output_stride: int | None = None, classes: int | None = None, progress: Progress = silent
) -> Lock:
    """Lock a network, at the default output stride and number of classes, or those of a file, if they are None.

    Raises:
        TargetError: If it cannot be imported, built or read, or has unknown operations.
    """
    output_stride = output_stride or (None if is_file(target.name) else DEFAULT_OUTPUT_STRIDE)
    progress("building", 0, _STAGES)
    stride, classes = output_stride or DEFAULT_OUTPUT_STRIDE, classes or DEFAULT_CLASSES
    with contextlib.redirect_stdout(sys.stderr), contextlib.closing(connect(target, stride, classes)) as module:
        progress("reading the graph", 1, _STAGES)
        try:
            lock = locked(module, target.name, output_stride)
            lock_file.read(lock_file.text(lock), "the lock")  # a lock that is refused is not written
        except (CaptureError, TargetError, ValidationError) as error:
            reason = one_line(error) if isinstance(error, ValidationError) else error.reason
            raise TargetError(target.name, f"cannot be locked: {reason}") from error
    progress("done", _STAGES, _STAGES)
    return lock


class LockedBlock(Model):
    """The cost of one block."""

    path: str
    parameters: int
    macs: int
    output: tuple[int, ...] = Field(description="Channels, height and width at the locked image.")


class LockedNearest(Model):
    """The nearest published network."""

    variant: str
    choices: dict[str, Any]
    unexplained: int = Field(description="Differences that the choices do not explain.")


class LockDocument(Document):
    """The result of ``lock``."""

    target: str
    output_stride: int
    classes: int
    image: tuple[int, int] = Field(description="Height and width of the image at which it was captured.")
    parameters: int
    macs: int = Field(description="Multiply-adds of the convolutions, for one image.")
    nodes: int
    nearest: LockedNearest | None
    accepted: tuple[tuple[int, int], ...] = Field(description="Small images that it accepts.")
    refused: tuple[tuple[int, int], ...] = Field(description="Small images that it refuses.")
    blocks: tuple[LockedBlock, ...]

    @property
    def summary(self) -> str:
        """What was locked, what it costs, and what it is nearest to."""
        near = f"nearest {self.nearest.variant}" if self.nearest else "of no published family"
        return (
            f"{self.target} at output stride {self.output_stride}, {self.nodes} operations, "
            f"{self.parameters:,} parameters, {self.macs:,} multiply-adds, {near}"
        )


def lock_document(lock: Lock) -> LockDocument:
    """Return the document of a lock."""
    near = lock.nearest
    return LockDocument(
        target=lock.target,
        output_stride=lock.output_stride,
        classes=lock.classes,
        image=lock.image,
        parameters=lock.parameters,
        macs=lock.multiply_adds,
        nodes=len(lock.normal.network),
        nearest=None
        if near is None
        else LockedNearest(
            variant=near.variant,
            choices={name: plain(value) for name, value in near.choices.items()},
            unexplained=near.unexplained,
        ),
        accepted=tuple(_size(response.inputs[0]) for response in lock.responses if response.results),
        refused=tuple(_size(response.inputs[0]) for response in lock.responses if not response.results),
        blocks=tuple(
            LockedBlock(
                path=block.path, parameters=block.parameters, macs=block.multiply_adds, output=tuple(block.output)
            )
            for block in lock.blocks
        ),
    )


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[-2], shape[-1]
