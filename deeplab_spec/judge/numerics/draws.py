"""Draws the weights with which a candidate is compared, and runs the oracle with them, beside what comes before."""

from collections.abc import Mapping
from concurrent.futures import Executor, Future

import torch
from torch import Tensor

from deeplab_spec.execute.interpreter import Values
from deeplab_spec.execute.torch_settings import threads_for
from deeplab_spec.execute.weights import Draw, challenge
from deeplab_spec.graph.ops import Pair
from deeplab_spec.judge.interface.observe import images
from deeplab_spec.judge.numerics.planted import needed
from deeplab_spec.judge.plan import Plan

Drawn = tuple[Mapping[str, Tensor], Values]
"""Weights of a network, and values that it has with them, both in float64."""


class Draws:
    """Draws weights twice, with the same kernels and other normalisations: for whole runs, and for single steps.

    Args:
        plan: The expected network.
        beside: Draws them while the judge goes on; what is begun later waits for what is begun before.
    """

    def __init__(self, plan: Plan, beside: Executor) -> None:
        self._plan = plan
        self._beside = beside
        self._whole_runs: dict[Pair, Future[Drawn]] = {}
        self._steps: dict[Pair, Future[Drawn]] = {}

    def inputs(self, image: Pair) -> list[Tensor]:
        """Return the inputs for an image size, in float64."""
        plan = self._plan
        return images(plan, plan.inputs_at(image), plan.batch, torch.float64, plan.request.seed)

    def begin(self, image: Pair) -> "Future[Drawn]":
        """Begin to draw the weights of whole runs."""
        if image not in self._whole_runs:
            self._whole_runs[image] = self._beside.submit(self._drawn, image, Draw.CONDITIONING)
        return self._whole_runs[image]

    def begin_steps(self, image: Pair) -> None:
        """Begin to draw the weights of single steps."""
        if image not in self._steps:
            self._steps[image] = self._beside.submit(self._drawn, image, Draw.COVERAGE, self.begin(image))

    def whole_runs(self, image: Pair) -> Drawn:
        """Return weights that do not amplify rounding, and the values from which faulty ends start."""
        return self.begin(image).result()

    def steps(self, image: Pair) -> Drawn:
        """Return weights that show a fault of every step, and all values; they are large, and not kept here."""
        self.begin_steps(image)
        return self._steps.pop(image).result()

    def _drawn(self, image: Pair, draw: Draw, whole_runs: "Future[Drawn] | None" = None) -> Drawn:
        network, seed = self._plan.network, self._plan.request.seed
        named = {node.path: value for node, value in zip(network.inputs, self.inputs(image), strict=True)}
        with threads_for(torch.float64):
            if whole_runs:
                return challenge(network, named, draw, seed, kernels=whole_runs.result()[0])
            return challenge(network, named, draw, seed + 1, keep=needed(network))
