"""Finds the smallest input on which the values of one node still differ.

Image size, number of images and content are minimized in turn: a smaller size with the same content, then a simpler
content at that size, then the size again, until nothing changes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.errors import GraphError
from deeplab_spec.execute.interpreter import run
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.graph.ops import Input, Pair
from deeplab_spec.judge.certificate import SmallestInput, Values
from deeplab_spec.judge.numerics.steps import STEP_LIMIT, Steps
from deeplab_spec.judge.plan import Plan

MOST_TRIALS: Final = 80

SIDES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 17, 24, 32, 33, 48, 64, 96, 128, 192, 256)
"""Sides of the images to try; no image is tried twice."""

Content = Callable[[tuple[int, ...], int], Tensor]
"""Returns an input of a shape; the second argument is a seed."""


def _impulse(shape: tuple[int, ...], _seed: int) -> Tensor:
    image = torch.zeros(shape, dtype=torch.float64)
    image[..., shape[-2] // 2, shape[-1] // 2] = 1.0
    return image


def _random(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CONTENTS: Final[Mapping[str, Content]] = {
    "zeros": lambda shape, _: torch.zeros(shape, dtype=torch.float64),
    "ones": lambda shape, _: torch.ones(shape, dtype=torch.float64),
    "an impulse in the middle": _impulse,
    "normal random numbers": _random,
}
"""The contents of an image, the simplest first."""


@dataclass(frozen=True, slots=True)
class _Trial:
    batch: int
    image: Pair
    content: str


def minimize(steps: Steps, plan: Plan, weights: Mapping[str, Tensor], path: str, image: Pair) -> SmallestInput:
    """Return the smallest input found on which a step still differs, with both values.

    Args:
        steps: The candidate's steps.
        plan: The expected network, and the sizes that the candidate accepts.
        weights: The weights of both sides.
        path: The specification's node whose values differ.
        image: An image at which they differ.
    """
    search = _Search(steps, plan, weights, path)
    best = _Trial(plan.batch, image, "normal random numbers")
    if plan.limits.batch is None and search.shows(smaller := _Trial(1, best.image, best.content)):
        best = smaller
    while True:
        before = best
        if not plan.limits.sides:
            best = search.smaller(best)
        best = search.simpler(best)
        if best == before:
            return search.described(best)


class _Search:
    """Trials of one step, each made once."""

    def __init__(self, steps: Steps, plan: Plan, weights: Mapping[str, Tensor], path: str) -> None:
        self.steps = steps
        self.plan = plan
        self.weights = weights
        self.path = path
        self.known: dict[_Trial, bool] = {}

    def shows(self, trial: _Trial) -> bool:
        """Tell whether the step differs on a value of the right shape; False after too many trials."""
        if trial not in self.known:
            if len(self.known) >= MOST_TRIALS:
                return False
            try:
                actual, expected = self._values(trial)
                differs = actual.shape == expected.shape and not relative_error(actual, expected) <= STEP_LIMIT
            except (RuntimeError, IndexError, KeyError, ValueError, GraphError):
                differs = False  # the network does not run at this size
            self.known[trial] = differs
        return self.known[trial]

    def smaller(self, trial: _Trial) -> _Trial:
        """Return the trial with the smallest image that still differs; both sides are reduced first, then one."""
        for image in _smaller_images(trial.image):
            other = _Trial(trial.batch, image, trial.content)
            if self.shows(other):
                return other
        return trial

    def simpler(self, trial: _Trial) -> _Trial:
        """Return the trial with the simplest content that still differs."""
        for content in CONTENTS:
            if content == trial.content:
                break
            if self.shows(other := _Trial(trial.batch, trial.image, content)):
                return other
        return trial

    def described(self, trial: _Trial) -> SmallestInput:
        """Return a trial with statistics of both values."""
        actual, expected = self._values(trial)
        return SmallestInput(
            batch=trial.batch,
            image=trial.image,
            content=trial.content,
            error=relative_error(actual, expected),
            expected=summary(expected),
            actual=summary(actual),
        )

    def _values(self, trial: _Trial) -> tuple[Tensor, Tensor]:
        sizes = self.plan.inputs_at(trial.image)
        inputs = {
            node.path: CONTENTS[trial.content](
                (trial.batch, node.op.channels, *sizes[node.path]), self.plan.request.seed
            )
            for node in self.steps.expected.inputs
            if isinstance(node.op, Input)
        }
        values = run(self.steps.expected, self.weights, inputs, until=self.path)
        return self.steps.on(values).values(self.path)


def _smaller_images(image: Pair) -> Iterator[Pair]:
    """Return image sizes with both sides smaller, then with one, the smallest first."""
    height, width = image
    both = ((min(side, height), min(side, width)) for side in SIDES)
    one = (pair for side in SIDES for pair in ((min(side, height), width), (height, min(side, width))))
    yield from (other for other in dict.fromkeys((*both, *one)) if other != image)


def summary(value: Tensor) -> Values:
    """Return statistics of a tensor."""
    flat = value.double().flatten()
    return Values(
        shape=tuple(value.shape),
        mean=float(flat.mean()),
        deviation=float(flat.std(unbiased=False)),
        least=float(flat.min()),
        greatest=float(flat.max()),
    )
