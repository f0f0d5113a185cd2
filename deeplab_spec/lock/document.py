"""The JSON document of ``lock``: the locked network without its nodes, which are in the lock file."""

from typing import Any

from pydantic import Field

from deeplab_spec.align.lock import Lock
from deeplab_spec.spec.choices import plain
from deeplab_spec.views.document import Document, Model


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
