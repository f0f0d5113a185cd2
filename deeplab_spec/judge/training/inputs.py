"""The training inputs: weights, batches and the loss, all drawn from one seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.execute.training import output_paths
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Input, Pair
from deeplab_spec.judge.outputs import Answer, Shapes

Draw = Callable[[Pair, int, int], list[Tensor]]
"""Draws the inputs for an image's size, a batch and a seed, in float64."""

IMAGES: Final = ((51, 67), (64, 96))
"""Image sizes to train with: sides coprime to every stride; then multiples, for candidates that accept no other."""

SMALL: Final = ((33, 35), (32, 64))
"""Image sizes for many calls, likewise."""

BATCH: Final = 2


def images_of(network: Network) -> Draw:
    """Return a function that draws the inputs of a network whose inputs are all images of one size."""

    def draw(image: Pair, batch: int, seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        channels = [node.op.channels for node in network.inputs if isinstance(node.op, Input)]
        return [torch.randn(batch, count, *image, generator=generator, dtype=torch.float64) for count in channels]

    return draw


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingInputs:
    """The inputs of a training run.

    Attributes:
        network: The expected network.
        weights: Its weights, by path and role, in float64.
        draw: Draws the inputs.
        seed: Seed of inputs and loss.
        size: Index of the image size.
    """

    network: Network
    weights: Mapping[str, Tensor]
    draw: Draw
    seed: int
    size: int = 0

    @property
    def outputs(self) -> dict[str, str]:
        """The paths of the results by tap."""
        return output_paths(self.network)

    def batch(self, number: int) -> list[Tensor]:
        """Return the inputs of the first or the second batch."""
        return self.draw(IMAGES[self.size], BATCH, self.seed + number)

    def small(self, images: int) -> list[Tensor]:
        """Return a number of small inputs, in float32."""
        return [value.float() for value in self.draw(SMALL[self.size], images, self.seed + BATCH)]

    def named(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return inputs by path."""
        return {node.path: value for node, value in zip(self.network.inputs, inputs, strict=True)}

    def shapes(self, inputs: Sequence[Tensor]) -> dict[str, tuple[int, int, int]]:
        """Return channels, height and width of every value by path."""
        return shapes(
            self.network, {path: (int(x.shape[2]), int(x.shape[3])) for path, x in self.named(inputs).items()}
        )

    def taps(self, inputs: Sequence[Tensor]) -> Shapes:
        """Return the shapes of the results by tap."""
        found = self.shapes(inputs)
        return tuple((tap, (len(inputs[0]), *found[path])) for tap, path in self.outputs.items())

    def cotangents(self) -> dict[str, Tensor]:
        """Return the weight of every element of a result in the loss, by tap: the loss is their weighted sum."""
        generator = torch.Generator().manual_seed(self.seed)
        return {
            tap: torch.randn(shape, generator=generator, dtype=torch.float64) for tap, shape in self.taps(self.batch(0))
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstBatch:
    """The outcome of the first batch.

    Attributes:
        training: The training inputs, at a size that the candidate accepts.
        answer: The results, with running statistics of zero before it.
        moved: The running statistics after it.
        after: All buffers after it.
    """

    training: TrainingInputs
    answer: Answer
    moved: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
