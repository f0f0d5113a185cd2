"""Judges values with the graph hidden: the candidate is a mere function whose weights can be set.

A fault that shows must show in the result, whatever the depth. Cheap inputs come first, and the first
that shows it decides; what agrees on all of them is accepted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.execute.interpreter import Values, run
from deeplab_spec.execute.weights import Draw, challenge, roles
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Pair
from deeplab_spec.judge.numerics import END, RATIO
from deeplab_spec.judge.running import relative_error

LOWER: Final = (torch.float32, torch.bfloat16, torch.float16)
"""Dtypes in which a candidate is held to the error that the specification has itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One input, one draw of weights, and what the specification makes of them.

    Attributes:
        network: The specification.
        weights: By path and role, in float64.
        inputs: A float64 tensor by the path of each input.
        values: The specification's values by path, in float64.
        draw: What the weights are good at.
    """

    network: Network
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    values: Values
    draw: Draw

    @property
    def oracle(self) -> Tensor:
        """The specification's result."""
        return self.values[self.network.outputs[0].path]

    def own_error(self, dtype: torch.dtype) -> float:
        """Return the relative error of the specification's own result in another dtype."""
        result = run(self.network, cast(self.weights, dtype), cast(self.inputs, dtype), keep=())
        found = relative_error(result[self.network.outputs[0].path], self.oracle)
        return max(found, torch.finfo(dtype).eps)


def trials(network: Network, images: Iterable[Pair], seed: int = 0) -> list[Trial]:
    """Draw what candidates for a network are judged with, the cheapest first.

    Args:
        network: The specification; one image goes in.
        images: Heights and widths.
        seed: Seed of images and weights.
    """
    found = []
    (entry,) = network.inputs
    for number, image in enumerate(sorted(images, key=lambda sides: sides[0] * sides[1])):
        generator = torch.Generator().manual_seed(seed + number)
        inputs = {entry.path: torch.randn(1, 3, *image, generator=generator, dtype=torch.float64)}
        for draw in Draw:
            weights, values = challenge(network, inputs, draw, seed + number)
            found.append(Trial(network=network, weights=weights, inputs=inputs, values=values, draw=draw))
    return found


def error(result: Tensor | None, trial: Trial) -> float:
    """Return how far a result is from the specification's; infinite where there is none, or no number."""
    if result is None:
        return float("inf")
    found = relative_error(result, trial.oracle)
    return found if found == found else float("inf")  # noqa: PLR0124 - not a number


def refused(errors: Sequence[float]) -> bool:
    """Tell whether results in float64 are refused."""
    return any(not found <= END for found in errors)


def refused_in(found: float, own: float) -> bool:
    """Tell whether a result in a lower precision is refused: by the error that the specification has there."""
    return not found <= RATIO * own


def unfit(network: Network, weights: dict[str, Tensor]) -> tuple[str, ...]:
    """Return the tensors of the specification that have no place of their shape in a network."""
    held = {f"{node.path}.{role}": shape for node in network for role, shape in roles(node.op).items()}
    return tuple(name for name, tensor in weights.items() if held.get(name) != tuple(tensor.shape))


def cast(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return tensors in another dtype."""
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}
