"""What the specification computes in training, from its starting weights: begun beside what the judge does before."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

import torch
from torch import Tensor

from deeplab_spec.execute.interpreter import run
from deeplab_spec.execute.torch_settings import threads_for
from deeplab_spec.execute.training import Batch, gradients, starting_weights, train
from deeplab_spec.graph.network import Network
from deeplab_spec.judge.outputs import Answer
from deeplab_spec.judge.training.candidate import Draw, TrainingInputs
from deeplab_spec.judge.training.dropout_effect import dropout_of_oracle
from deeplab_spec.judge.training.sgd_step import stepped

Result = TypeVar("Result")


class TrainingOracle:
    """What training is compared with.

    Args:
        network: The expected network.
        draw: Draws the inputs.
        seed: Seed of weights and images.
        beside: Computes it, for the first size of images; what is asked for another size is computed at once.
        differentiable: Whether the candidate can be compared with it.
    """

    def __init__(self, network: Network, draw: Draw, seed: int, beside: Executor, *, differentiable: bool) -> None:
        self.differentiable = differentiable
        self._network, self._draw, self._seed = network, draw, seed
        self._weights = beside.submit(starting_weights, network, seed)
        self._begun: dict[Callable[..., Any], Future[Any]] = {}
        for what in (differentiated, evaluated, after_step, dropout_of_oracle) if differentiable else ():
            self._begun[what] = beside.submit(self._computed, what)

    def training(self) -> TrainingInputs:
        """Return the inputs and the starting weights."""
        return TrainingInputs(network=self._network, weights=self._weights.result(), draw=self._draw, seed=self._seed)

    def result(self, what: Callable[..., Result], training: TrainingInputs, *arguments: object) -> Result:
        """Return what a function computes from training inputs."""
        if training.size:
            return what(training, *arguments)
        found: Result = self._begun[what].result()
        return found

    def _computed(self, what: Callable[..., Any]) -> Any:  # noqa: ANN401 - the result of any of the functions
        known = [self._begun[differentiated].result()[1]] if what is after_step else []
        with threads_for(torch.float64):
            return what(self.training(), *known)


def differentiated(training: TrainingInputs) -> tuple[Batch, dict[str, Tensor]]:
    """Run the first batch, and differentiate it; return the gradients of the parameters too."""
    with threads_for(torch.float64):
        cotangents = {training.outputs[tap]: weight for tap, weight in training.cotangents().items()}
        return gradients(training.network, training.weights, training.named(training.batch(0)), cotangents)


def evaluated(training: TrainingInputs) -> Answer:
    """Run the first image of the first batch in evaluation."""
    inputs = training.named([value[:1] for value in training.batch(0)])
    with torch.no_grad(), threads_for(torch.float64):
        values = run(training.network, training.weights, inputs, keep=set(training.outputs.values()))
    return Answer(results={tap: values[path] for tap, path in training.outputs.items()})


def after_step(training: TrainingInputs, gradients_of_first: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the statistics of the second batch, after a step with the gradients of the first."""
    _, weights = stepped(training, gradients_of_first)
    with torch.no_grad(), threads_for(torch.float64):
        return train(training.network, weights, training.named(training.batch(1))).statistics
